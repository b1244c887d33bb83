"""Rules of the code base that no other tool checks: private names, lengths, parameters.

Import directions and who may import which library are contracts of import-linter, in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted((ROOT / "daemon").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LONGEST_FILE, LONGEST_CLASS, MOST_PARAMETERS = 620, 390, 6
INSIDE_AIOKAFKA = "daemon/adapters/kafka/aiokafka_inside.py"
"""The one place that uses what aiokafka does not offer; it names the version and the reason of each use."""


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(path: Path) -> Iterator[str]:
    """Where a file uses a private name of another object or module."""
    tree = ast.parse(path.read_text())
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os")):
                yield f"{place(path)}:{node.lineno} {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("daemon"):
            for alias in node.names:
                if is_private(alias.name):
                    yield f"{place(path)}:{node.lineno} import {alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "delattr")):
            for argument in node.args[:2]:
                text = argument.value if isinstance(argument, ast.Constant) else None
                if isinstance(text, str) and any(map(is_private, text.split("."))):
                    yield f"{place(path)}:{node.lineno} {text}"


def test_no_module_uses_private_names_of_another() -> None:
    uses = [use for path in CODE if place(path) != INSIDE_AIOKAFKA for use in private_uses(path)]
    assert uses == []


def test_no_test_uses_private_names_of_daemon() -> None:
    """Those of aiokafka are another matter: some tests make its client fail as a broker does."""
    text = "\n".join(path.read_text() for path in CODE if place(path) != INSIDE_AIOKAFKA)
    uses = [use for path in TESTS for use in private_uses(path)]
    assert [
        use for use in uses if re.search(rf"\b{re.escape(use.rpartition('.')[2].split()[-1])}\b", text)
    ] == []


@pytest.mark.parametrize("path", CODE, ids=place)
def test_files_classes_and_parameter_lists_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_CLASS, node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "cli" not in path.parts:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [each.arg for each in arguments if each.arg not in ("self", "cls")]
            assert len(names) <= MOST_PARAMETERS, f"{node.name}: {names}"


@pytest.mark.parametrize(
    "source", ["def f(x): return x._hidden", "from daemon.a import _b", 'p.setattr(m, "_c", 1)']
)
def test_a_use_of_a_private_name_is_found(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.py"
    path.write_text(source)
    monkeypatch.setattr("tests.test_architecture.ROOT", tmp_path)
    assert len(list(private_uses(path))) == 1

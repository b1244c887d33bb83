"""``Page``: slots, escapes, the policy, and that the files of all pages come with the wheel."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import daemon
from daemon.adapters.pages import Page as Document
from daemon.adapters.pages import bounded, encoded
from tests.adapters.pages.markup import HOSTILE, Markup, digest, hashes

ROOT = Path(daemon.__file__).parent
PAGES = sorted(path.parent for path in ROOT.rglob("page.html"))


def test_a_document_embeds_its_files_as_they_are_and_permits_exactly_them() -> None:
    page = Document("<head>{{styles}}</head>{{scripts}}", ("a {}", "b {}"), ("let c", "let d"))
    text = page.document({})
    markup = Markup(text)
    assert (markup.styles, markup.scripts) == (["a {}", "b {}"], ["let c", "let d"])
    assert hashes(page.policy(), "script-src") == [digest("let c"), digest("let d")]
    assert hashes(page.policy(), "style-src") == [digest("a {}"), digest("b {}")]
    assert page.policy("connect-src 'self'").endswith("; connect-src 'self'")


def test_a_text_stays_a_text_and_a_document_stays_in_its_element() -> None:
    page = Document('<p>{{name}}</p><script type="application/json">{{data}}</script>', (), ())
    markup = Markup(
        page.document({"name": HOSTILE + "{{data}}"}, {"data": encoded({"n": HOSTILE, "x": math.nan})})
    )
    assert [tag for tag, _ in markup.tags] == ["p", "script"]
    assert json.loads(markup.json[0]) == {"n": HOSTILE, "x": None}


def test_a_slot_that_nobody_fills_is_an_error() -> None:
    with pytest.raises(KeyError, match="title"):
        Document("{{title}}", (), ()).document({})


def test_only_a_page_with_charts_carries_plotly() -> None:
    plain, charts = (Document("{{scripts}}", (), ("let a",), charts) for charts in (False, True))
    assert len(Markup(plain.document({})).scripts) == 1
    library, own = Markup(charts.document({})).scripts
    assert "plotly.js v" in library[:200]
    assert own == "let a"
    assert hashes(charts.policy(), "script-src") == [digest(library), digest(own)]
    assert "unsafe-inline" not in charts.policy()


def test_a_name_is_bounded_and_can_be_encoded() -> None:
    assert bounded("x" * 300) == "x" * 199 + "…"
    assert bounded("pump\ud800").encode() == b"pump?"


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: str(folder.name))
def test_a_page_is_made_of_three_files(folder: Path) -> None:
    markup, style, script = ((folder / f"page.{ending}").read_text() for ending in ("html", "css", "js"))
    assert "<style" not in markup
    assert markup.count("{{scripts}}") == markup.count("{{styles}}") == 1
    assert not [tag for tag, attributes in Markup(markup).tags if "style" in attributes]
    assert '"use strict";' in script.splitlines()[:3]
    assert style.startswith("/*")


def test_no_python_file_holds_markup_or_style() -> None:
    for path in (ROOT / "adapters").rglob("*.py"):
        text = path.read_text()
        assert "<!doctype" not in text, path
        assert "</div>" not in text, path
        assert "</table>" not in text, path


def test_all_files_of_the_pages_are_in_the_wheel() -> None:
    about = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    patterns = about["tool"]["setuptools"]["package-data"]["*"]  # of every package
    files = [p for p in ROOT.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert len(files) >= 3 * len(PAGES) > 12
    assert [p for p in files if not any(fnmatch(p.name, pattern) for pattern in patterns)] == []
    assert all((p.parent / "__init__.py").exists() for p in files)  # package data of a package


def test_a_page_is_found_in_a_built_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "77", reason="setuptools 77 builds the wheel")
    source = tmp_path / "source"
    shutil.copytree(ROOT, source / "daemon", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT.parent / name, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
    ]
    subprocess.run([*build, source], check=True, timeout=300)
    (wheel,) = tmp_path.glob("anomalyd-*.whl")
    code = (
        "from daemon.adapters.admin import PAGE; from daemon.adapters.pages import Page; from hashlib import sha256;"
        "page = Page.load('daemon.adapters.latent_page', own=['map.js'], charts=True);"
        "print(Page.load.__code__.co_filename, sha256((PAGE + page.policy()).encode()).hexdigest())"
    )

    def ran(path: Path) -> list[str]:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(path)},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.split()

    place, built = ran(wheel)
    assert place.startswith(str(wheel))
    assert built == ran(ROOT.parent)[1]

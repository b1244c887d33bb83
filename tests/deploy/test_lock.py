"""The lock files: what is installed is what they hold, and they hold what pyproject.toml asks for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-cpu.lock", "requirements-ci.lock")


def checked(root: Path) -> tuple[int, str]:
    """Exit code and words of the check on a copy."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy/lock_check.py"), str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """pyproject.toml and the lock files, to be damaged."""
    (tmp_path / "deploy").mkdir()
    for name in ("pyproject.toml", *(f"deploy/{lock}" for lock in LOCKS)):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def replaced(path: Path, pattern: str, new: str) -> None:
    """Put something else for the first place that a pattern matches."""
    text, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def test_the_lock_holds_what_the_project_asks_for() -> None:
    assert checked(ROOT) == (0, "")


@pytest.mark.parametrize(
    ("file", "pattern", "new", "says"),
    [
        ("pyproject.toml", r'"msgspec[^"]*"', '"msgspec>=99"', "requirements.lock: msgspec .* is not >=99"),
        ("pyproject.toml", r'"rich[^"]*"', '"absent>=1"', "requirements.lock: absent is missing"),
        ("pyproject.toml", r'"httpx[^"]*"', '"absent>=1"', "requirements-ci.lock: absent is missing"),
        ("pyproject.toml", r'"setuptools[^"]*"', '"setuptools<1"', "setuptools .* is not <1"),
        ("deploy/requirements.lock", r"^rich==.*(\n    --hash.*)+", "rich==1", "rich has no hashes"),
        ("deploy/requirements.lock", r"\A", "--extra-index-url elsewhere\n", "names a place"),
        ("deploy/requirements.lock", r"\A", "x @ https://elsewhere/x.whl\n", "names a place"),
        (
            "deploy/requirements-ci.lock",
            r"^rich==\S+",
            "rich==1.0",
            "rich is 1.0, but .* in requirements.lock",
        ),
        ("deploy/requirements-cpu.lock", r"^rich==\S+", "rich==1.0", "requirements-cpu.lock: is not"),
    ],
)
def test_a_lock_that_does_not_fit_is_named(copy: Path, file: str, pattern: str, new: str, says: str) -> None:
    replaced(copy / file, pattern, new)
    code, said = checked(copy)
    assert code == 1
    assert re.search(says, said), said


def test_the_cpu_lock_has_neither_torch_nor_cuda() -> None:
    text = (ROOT / "deploy/requirements-cpu.lock").read_text()
    assert not re.findall(r"^(?:torch|triton|nvidia|cuda).*", text, re.MULTILINE)


# ------------------------------------------------------------------ the image
PIP = """#!/bin/sh
echo "$@" >> "$SAID"
for word in "$@"; do case "$word" in *.txt) cat "$word" >> "$SAID";; esac; done
"""


def installed(folder: Path, **arguments: str) -> list[str]:
    """What the Dockerfile's step that installs packages asks pip for."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    (step,) = (
        run for run in re.findall(r"^RUN ((?:.*\\\n)*.*)", text, re.MULTILINE) if "requirements.lock" in run
    )
    for lock in LOCKS[:2]:
        shutil.copy(ROOT / "deploy" / lock, folder / lock)
    (folder / "pip").write_text(PIP)
    (folder / "pip").chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    environment = {"PATH": path, "SAID": str(folder / "said"), **arguments}
    subprocess.run(["/bin/sh", "-c", step], cwd=folder, env=environment, check=True)
    return (folder / "said").read_text().splitlines()


def test_the_image_installs_what_is_locked_and_nothing_else(tmp_path: Path) -> None:
    assert installed(tmp_path) == ["install --require-hashes --only-binary :all: -r requirements.lock"]


@pytest.mark.parametrize("sha256", ["", "0" * 64])
def test_an_image_with_another_torch_takes_the_locked_version(tmp_path: Path, sha256: str) -> None:
    said = installed(tmp_path, TORCH_INDEX_URL="elsewhere", TORCH_SHA256=sha256)
    lock = (ROOT / "deploy/requirements.lock").read_text()
    (version,) = re.findall(r"^torch==([0-9.]+) ", lock, re.MULTILINE)
    assert said == [
        "install --no-deps --index-url elsewhere -r torch.txt",
        f"torch=={version}" + (f" --hash=sha256:{sha256}" if sha256 else ""),
        "install --require-hashes --only-binary :all: -r requirements-cpu.lock",
    ]

"""Files and folders that are written whole or not at all, whatever ends the writing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.writing import AtomicFile, current, exchange, replacing, replacing_folder, sweep

Swap = Callable[[Path, Path], bool]


def cannot(one: Path, other: Path) -> bool:
    """A system that cannot exchange two names."""
    return False


def content(folder: Path) -> dict[str, str]:
    return {child.name: child.read_text() for child in folder.iterdir()}


def put(path: Path, text: str, swap: Swap = exchange) -> None:
    with replacing_folder(path, swap=swap) as folder:
        (folder / "one").write_text(text)
        (folder / "two").write_text(text)


def test_a_file_takes_its_place_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("before")
    path.chmod(0o600)
    with replacing(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("a bug")])
def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path, error: Exception) -> None:
    path, folder = tmp_path / "file", tmp_path / "folder"
    path.write_text("before")
    put(folder, "before")

    def half_a_file() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    def half_a_folder() -> None:
        with replacing_folder(folder) as scratch:
            (scratch / "one").write_text("half")
            raise error

    for half in (half_a_file, half_a_folder):
        with pytest.raises(type(error)):
            half()
    assert path.read_text() == "before"
    assert content(folder) == {"one": "before", "two": "before"}
    assert sorted(tmp_path.iterdir()) == [path, folder]


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link, null = tmp_path / "real" / "file", tmp_path / "link", Path(os.devnull)
    target.write_text("before")
    link.symlink_to(target)
    with replacing(link) as temporary:
        temporary.write_text("after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    beside = AtomicFile(null)
    beside.temporary.write_text("gone")
    beside.commit()
    beside.discard()
    assert null.is_char_device()


@pytest.mark.parametrize("swap", [exchange, cannot])
def test_a_folder_replaces_another_and_leaves_nothing_behind(tmp_path: Path, swap: Swap) -> None:
    path = tmp_path / "model"
    for text in ("first", "second", "third"):
        put(path, text, swap)
        assert content(path) == {"one": text, "two": text}
        assert list(tmp_path.iterdir()) == [path]


def test_a_second_step_that_fails_takes_back_the_first(tmp_path: Path) -> None:
    path = tmp_path / "model"
    put(path, "before")

    def vanishing(one: Path, other: Path) -> bool:
        one.rename(one.with_name("elsewhere"))
        return False

    with pytest.raises(FileNotFoundError):
        put(path, "after", vanishing)
    assert content(path) == {"one": "before", "two": "before"}


def test_a_file_system_error_of_the_exchange_is_raised(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "a", tmp_path / "b")


KILLED = """
import os, sys
from pathlib import Path
from daemon import writing
place, left, swap = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "exchange"
def hook(event, arguments):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(hook)
with writing.replacing_folder(place, swap=writing.exchange if swap else lambda a, b: False) as folder:
    (folder / "one").write_text("after")
    (folder / "two").write_text("after")
with writing.replacing(place.parent / "file") as temporary:
    temporary.write_text("after")
os._exit(0)
"""


@pytest.mark.parametrize("swap", ["exchange", "two steps"])
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, swap: str) -> None:
    seen = set()
    for steps in range(80):
        home = tmp_path / str(steps)
        home.mkdir()
        path, file = home / "model", home / "file"
        put(path, "before")
        file.write_text("before")
        command = [sys.executable, "-c", KILLED, str(path), str(steps), swap]
        code = subprocess.run(command, check=False).returncode
        found = content(current(path))
        assert found in ({"one": "before", "two": "before"}, {"one": "after", "two": "after"})
        assert file.read_text() in ("before", "after")
        seen.add((found["one"], file.read_text(), path.exists()))
        put(path, "again")
        assert content(path) == {"one": "again", "two": "again"}
        assert not list(home.glob("*.former"))
        for left in home.glob(".*"):  # what the killed one left goes a day later
            os.utime(left, (0, 0))
        sweep(path)
        sweep(file)
        assert sorted(home.iterdir()) == [file, path]
        if code == 0:
            break
    else:
        pytest.fail("it never came to its end")
    assert {("before", "before", True), ("after", "before", True), ("after", "after", True)} <= seen
    assert (("before", "before", False) in seen) == (swap == "two steps")


def test_what_is_still_being_written_is_not_swept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as temporary:
        temporary.write_text("mine")
        sweep(path)
    assert path.read_text() == "mine"


FULL = """
import resource, sys
from pathlib import Path
from daemon.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv[1:] = sys.argv[2:]
main()
"""


@pytest.mark.parametrize("exists", [False, True])
def test_no_command_leaves_half_a_file_where_the_disk_is_full(tmp_path: Path, exists: bool) -> None:
    sample, out = tmp_path / "in.csv", tmp_path / "out"
    lines = [
        f"pump-{i % 3},2026-01-01T{i // 60:02}:{i % 60:02}:00Z,{i % 7},{i % 11 or ''}" for i in range(900)
    ]
    sample.write_text("\n".join(["asset,timestamp,a,b", *lines]) + "\n")
    out.mkdir()
    names = ["config.yaml", "filled.csv", "filled.csv.filled.parquet"]
    if exists:
        for name in names:
            (out / name).write_text("precious")
    for limit, arguments in [
        ("100", ["init", str(sample), "--out", str(out / "config.yaml"), "--force"]),
        ("3000", ["impute", str(sample), "--out", str(out / "filled.csv")]),
    ]:
        command = [sys.executable, "-c", FULL, limit, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert "cannot be written: File too large" in done.stderr
        assert "Traceback" not in done.stderr
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(
        names if exists else [], "precious"
    )

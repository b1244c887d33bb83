"""Result files appear only when they are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.adapters.files import ImputedFile, JsonLines, replacing, write_summary
from daemon.errors import DaemonError


def test_an_unfinished_file_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def broken(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError

    def interrupted(lines: JsonLines) -> None:
        lines.write(b"{}")
        raise RuntimeError

    with pytest.raises(RuntimeError), replacing(path) as temporary:
        broken(temporary)
    with pytest.raises(RuntimeError), JsonLines(path) as lines:
        interrupted(lines)
    with pytest.raises(RuntimeError), ImputedFile(path):
        raise RuntimeError
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for make in (JsonLines, ImputedFile, lambda path: write_summary(path, {})):
        with pytest.raises(DaemonError, match="there is no directory"):
            make(tmp_path / "none" / "a")
    (tmp_path / "a").mkdir()
    with pytest.raises(DaemonError, match=r"a: cannot be written: "):
        write_summary(tmp_path / "a", {})

"""Names belong to a version, stand beside the bundle, and are never half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.adapters.names import ClusterName, Names, NamesFile
from daemon.errors import InputError

MINE = Names({"3": "valve opening"}, [ClusterName("night", (0.5, -1.0))])


def test_names_are_what_was_written(tmp_path: Path) -> None:
    bundle = tmp_path / "pump.model"
    bundle.mkdir()
    assert NamesFile.beside(bundle).of("aaa") == Names()
    NamesFile.beside(bundle).with_names("aaa", MINE)
    read = NamesFile.beside(bundle)
    assert read.path == tmp_path / "pump.model.names.json"
    assert read.of("aaa") == MINE
    assert list(bundle.iterdir()) == []  # a bundle is what its version says, and nothing more


def test_another_version_has_names_of_its_own(tmp_path: Path) -> None:
    file = NamesFile.beside(tmp_path / "b").with_names("aaa", MINE)
    file = file.with_names("bbb", Names({"0": "load"}))
    assert file.of("aaa") == MINE
    assert file.of("ccc") == Names()
    assert (file.others("aaa"), file.others("bbb"), file.others("ccc")) == (1, 2, 3)
    assert NamesFile.beside(tmp_path / "b").versions == file.versions


def test_a_link_and_its_bundle_have_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    NamesFile.beside(tmp_path / "current").with_names("aaa", MINE)
    assert NamesFile.beside(tmp_path / "v1").of("aaa") == MINE


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"versions": {"a": {"dimensions": {"1": 2}}}}', b"\xff"]
)
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.names.json").write_bytes(content)
    with pytest.raises(InputError, match=r"b\.names\.json"):
        NamesFile.beside(tmp_path / "b")


def test_what_cannot_be_written_leaves_the_names_as_they_were(tmp_path: Path) -> None:
    file = NamesFile.beside(tmp_path / "b").with_names("aaa", MINE)
    before = file.path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        file.with_names("bbb", Names({"0": "\ud800"}))
    assert file.path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["b.names.json"]

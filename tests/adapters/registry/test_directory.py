"""Models in a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.adapters.registry import ModelDirectory, Pointer, Promoted
from daemon.errors import BundleError


def written(text: str):
    def write(folder: Path) -> None:
        (folder / "manifest.json").write_text(text)

    return write


def test_a_stored_version_is_read_back_unchanged(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    assert models.versions("pumps") == []
    assert models.promoted("pumps") is None
    models.add("pumps", "aaa", written("one"))
    models.add("pumps", "bbb", written("two"))
    models.add("fans", "ccc", written("three"))
    assert sorted(models.versions("pumps")) == ["aaa", "bbb"]
    assert (models.folder("pumps", "bbb") / "manifest.json").read_text() == "two"
    models.promote("pumps", "bbb", "first")
    models.promote("pumps", "aaa", "by hand", "kim", "2026-01-31T08:00:00Z")
    assert models.promoted("pumps") == Pointer(
        "aaa", "by hand", "bbb", "kim", "2026-01-31T08:00:00Z", (Promoted("bbb", "first"),)
    )
    assert models.promoted("fans") is None
    assert models.streams() == ["fans", "pumps"]
    with pytest.raises(BundleError, match="no directory of models"):
        ModelDirectory(tmp_path / "nowhere").streams()


def test_a_rollback_goes_to_the_nearest_version_that_is_stored(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    assert models.rollback("pumps") == ""
    for version in ("aaa", "bbb", "ccc", "ddd"):
        models.add("pumps", version, written(version))
        models.promote("pumps", version)
    models.remove("pumps", "ccc")
    assert models.rollback("pumps", "worse", "kim", to="ccc") == ""
    assert models.rollback("pumps", "worse", "kim") == "bbb"
    assert models.promoted("pumps") == Pointer("bbb", "worse", "aaa", "kim", past=(Promoted("aaa"),))
    assert models.rollback("pumps") == "aaa"
    assert models.rollback("pumps") == ""
    assert models.promoted("pumps") == Pointer("aaa")


def test_a_version_keeps_when_it_was_trained(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    models.add("pumps", "aaa", written("one"), trained_ns=1_700_000_000_000_000_000)
    assert models.trained_ns("pumps", "aaa") == 1_700_000_000_000_000_000
    models.add("pumps", "bbb", written("two"))
    assert models.trained_ns("pumps", "bbb") > 1_700_000_000_000_000_000


def test_a_version_added_twice_is_stored_once(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    models.add("pumps", "aaa", written("one"))
    models.add("pumps", "aaa", written("other"))
    assert models.versions("pumps") == ["aaa"]
    assert (models.folder("pumps", "aaa") / "manifest.json").read_text() == "one"


def test_a_version_that_could_not_be_written_does_not_exist(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)

    def half(folder: Path) -> None:
        (folder / "manifest.json").write_text("half")
        raise OSError("no space left")

    with pytest.raises(BundleError, match="no space left"):
        models.add("pumps", "aaa", half)
    assert models.versions("pumps") == []
    assert list((tmp_path / "pumps").iterdir()) == []


def test_an_unknown_version_names_the_known_ones(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    models.add("pumps", "aaa", written("one"))
    with pytest.raises(BundleError, match="no version 'zzz' of stream 'pumps'; it has aaa"):
        models.promote("pumps", "zzz")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
def test_a_name_that_would_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="cannot be kept"):
        ModelDirectory(tmp_path).add("pumps", name, written("x"))
    with pytest.raises(BundleError, match="cannot be kept"):
        ModelDirectory(tmp_path).add(name, "aaa", written("x"))


def test_an_unreadable_pointer_is_an_error(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    models.add("pumps", "aaa", written("one"))
    (tmp_path / "pumps" / "promoted").write_text("{")
    with pytest.raises(BundleError, match="promoted cannot be read"):
        models.promoted("pumps")


POINTERS = [
    b"",
    b"null",
    b'{"version": 7}',
    b'{"version": "../up"}',
    b'{"version": "promoted"}',
    b'{"version": "aaa", "before": "/"}',
    b'{"version": "aaa", "past": [{"version": "/"}]}',
    b'{"version": "aaa", "past": 7}',
    b'{"version": "' + b"a" * 101 + b'"}',
    b'{"version": "aaa", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"version": "aaa", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"version": "aaa", "reason": "' + b"x" * 10_000 + b'"}',
    b'{"version": "aaa", "reason": "\xff"}',
]


@pytest.mark.parametrize("pointer", POINTERS)
def test_a_malformed_pointer_is_an_error(tmp_path: Path, pointer: bytes) -> None:
    models = ModelDirectory(tmp_path)
    models.add("pumps", "aaa", written("one"))
    (tmp_path / "pumps" / "promoted").write_bytes(pointer)
    with pytest.raises(BundleError, match="promoted cannot be read"):
        models.promoted("pumps")
    assert models.retire("pumps", 0) == []
    models.promote("pumps", "aaa")
    assert models.promoted("pumps") == Pointer("aaa")


def test_old_versions_are_removed_from_the_directory(tmp_path: Path) -> None:
    models = ModelDirectory(tmp_path)
    for age, version in enumerate(["aaa", "bbb", "ccc", "ddd", "eee"]):
        place = models.add("pumps", version, written(version))
        os.utime(place, ns=(age, age))
    models.promote("pumps", "ccc")
    models.promote("pumps", "bbb", "went back")
    assert models.retire("pumps", 1) == ["aaa", "ddd"]
    assert models.versions("pumps") == ["bbb", "ccc", "eee"]
    assert models.retire("pumps", 10) == []
    models.withdraw("pumps")
    models.withdraw("pumps")
    assert models.promoted("pumps") is None
    assert models.retire("pumps", 0) == ["bbb", "ccc", "eee"]

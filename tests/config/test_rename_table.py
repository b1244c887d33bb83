"""The file of ``rename``."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config.rename_table import read_rename_table
from tests.stream.mapped import read, stream

T, NS = 1_772_352_000, 10**9


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_says_which_sensor_of_which_asset_an_id_is(tmp_path: Path) -> None:
    path = written(tmp_path / "names.csv", "\ufeffId;Asset;Sensor;note\nT1;saw;force;x\nT2;;stroke;\n")
    assert read_rename_table(path) == {"T1": ("saw", "force"), "T2": (None, "stroke")}
    section = stream(["force", "stroke"], {"asset": "$key", "time": "ts", "leaves": ".", "rename": path})
    assert read(section, {"ts": T, "T1": 1, "T2": 2, "T3": 3}, key=b"mill") == [
        ("saw", "force", T * NS, 1.0),
        ("mill", "stroke", T * NS, 2.0),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the header has 'nothing'; it needs id and sensor"),
        ("id,asset\nT1,saw\n", "the header has 'id, asset'; it needs id and sensor"),
        ("id,sensor\nT1,\n", "line 2: the id or the sensor is empty"),
        ("id,sensor\nT1,a\nT1,b\n", "line 3: 'T1' is there twice"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_rename_table(written(tmp_path / "names.csv", text))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_rename_table(str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes(b"id,sensor\nT1,gr\xf6\xdfe\n")
    with pytest.raises(ValueError, match="byte 15 is not UTF-8"):
        read_rename_table(str(tmp_path / "latin.csv"))

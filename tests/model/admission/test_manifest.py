"""No manifest beyond its limits is admitted."""

from __future__ import annotations

import math
import resource
import struct
from typing import Any

import pytest

from daemon.errors import BundleError
from daemon.model.bundle import MAGIC, Bundle
from tests.model.admission.conftest import GROWTH, files, parts, put_together

ANCHOR = {"version": "x", "mean": [0.0] * 4, "scale": [1.0] * 4, "seen": [True] * 4}
ROUGH = {"all": [[1.0] * 4] * 3, "assets": {}}
PLACE = {"since_ns": 0, "mean": [0.0] * 4, "spread": [1.0] * 4}
APART = {"assets": {"a": PLACE}, "weights": [[[0.0] * 4] * 4] * 2, "errors": [[0.0] * 4] * 3}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"calibration": {"threshold": 0.0}}, "threshold"),
        ({"calibration": {"threshold": -3.0}}, "threshold"),
        ({"calibration": {"threshold": None}}, "threshold"),
        ({"calibration": {"threshold": math.nan}}, "JSON is malformed"),
        ({"calibration": {"threshold": math.inf}}, "JSON is malformed"),
        ({"calibration": {"closing": -1.0}}, "closing"),
        ({"calibration": {"closing": 1e9}}, "close above the threshold"),
        ({"calibration": {"baseline_step": -1.0}}, "baseline_step"),
        ({"calibration": {"assets": 10**400}}, "assets|damaged bundle"),
        ({"calibration": {"assets": 1 << 60}}, "assets"),
        ({"facts": {"alert_rules": {"Flow": {"min_deviation": "9e999%"}}}}, "min_deviation"),
        ({"drift": {"latent_threshold": -1.0}}, "latent_threshold"),
        ({"vae": {"hidden": [10**9]}}, "hidden"),
        ({"vae": {"latent": 10**9}}, "latent"),
        ({"vae": {"latent": 65_536, "hidden": [65_536] * 32}}, "shape"),
        ({"vae": {"labels": ["a"] * 10_001}}, "labels"),
        ({"window": 10**9}, "window"),
        ({"window": 17}, "window of 17"),
        ({"lengths": [16, 4]}, "lengths"),
        ({"sensors": ["a"] * 4}, "a sensor appears twice"),
        ({"conditions": ["a", "a"]}, "a condition appears twice"),
        ({"period_ns": 0}, "period_ns"),
        ({"facts": {"active_units": "many"}}, "damaged bundle"),
        ({"facts": {"anchor": {"version": "x", "mean": [1.0], "scale": [1.0], "seen": [True]}}}, "anchor"),
        ({"facts": {"anchor": 7}}, "damaged bundle"),
        ({"facts": {"anchor": {**ANCHOR, "weights": [[1.0]]}}}, "its anchor is of other sensors"),
        ({"facts": {"anchor": {**ANCHOR, "weights": []}}}, "its anchor is of other sensors"),
        ({"facts": {"anchor": {**ANCHOR, "assets": {"a": [1.0]}}}}, "its anchor is of other sensors"),
        ({"facts": {"levels": {"a": [1.0]}}}, "its assets' means, roughness or places are of other sensors"),
        (
            {"facts": {"roughness": {"all": [[1.0], [1.0], [1.0]], "assets": {}}}},
            "its assets' means, roughness or places are of other sensors",
        ),
        ({"facts": {"roughness": {**ROUGH, "assets": {"a": [[1.0], [1.0], [1.0]]}}}}, "of other sensors"),
        ({"facts": {"roughness": {"all": [[1.0] * 4], "assets": {}}}}, "damaged bundle"),
        ({"facts": {"roughness": {"all": [[-1.0] * 4] * 3, "assets": {}}}}, "damaged bundle"),
        (
            {"facts": {"anchor": {**ANCHOR, "roughness": {"all": [[1.0]] * 3, "assets": {}}}}},
            "its anchor is of other sensors",
        ),
        (
            {"facts": {"apart": {**APART, "assets": {"a": {**PLACE, "mean": [1.0]}}}}},
            "places are of other sensors",
        ),
        ({"facts": {"apart": {**APART, "weights": [[[1.0] * 4] * 3] * 2}}}, "places are of other sensors"),
        ({"facts": {"apart": {**APART, "errors": [[1.0]] * 3}}}, "places are of other sensors"),
        ({"facts": {"apart": {**APART, "errors": [[1.0] * 4]}}}, "damaged bundle"),
        ({"facts": {"apart": {**APART, "assets": {"a": {**PLACE, "spread": [-1.0] * 4}}}}}, "damaged bundle"),
        (
            {"facts": {"anchor": {**ANCHOR, "apart": {**APART, "errors": [[1.0]] * 3}}}},
            "its anchor is of other sensors",
        ),
        ({"facts": {"anchor": {**ANCHOR, "recall": {"share": 1.1, "faults": 200}}}}, "damaged bundle"),
        ({"facts": {"anchor": {**ANCHOR, "recall": {"share": 0.5, "faults": 0}}}}, "damaged bundle"),
        ({"facts": {"hop": 0}}, "hop"),
        ({"facts": {"parent": "../up"}}, "parent"),
        ({"facts": {"rows_of": {"pump-1": -1}}}, "rows_of"),
        ({"facts": {"decision": {"promoted": True}}}, "reason"),
        ({"facts": {"condition": [5]}}, "condition"),
        ({"facts": {"condition": "mode"}}, "condition"),
        ({"facts": {"condition": ["$moon"]}}, "no field of the calendar"),
        ({"facts": {"condition": ["$hour"], "timezone": 5}}, "timezone"),
    ],
)
def test_a_manifest_beyond_its_limits_is_refused(bundle: Bundle, change: dict[str, Any], reason: str) -> None:
    manifest, arrays = parts(bundle)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for key, value in change.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    with pytest.raises(BundleError, match=reason):
        Bundle.from_bytes(put_together(manifest, arrays))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"format":4,"facts":' + b'{"a":' * 3_000, b"9" * 5_000])
def test_a_manifest_that_overflows_a_reader_is_refused(linear: Bundle, text: bytes) -> None:
    with pytest.raises(BundleError, match="damaged bundle"):
        Bundle.from_bytes(MAGIC + struct.pack(">I", len(text)) + text + files(linear)[1])

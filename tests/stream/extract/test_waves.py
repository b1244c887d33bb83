"""Blocks of samples: their features, and the times of their samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.input_notation import REDUCTIONS
from daemon.stream.extract.waves import FEATURES, features
from tests.stream.mapped import as_record, cells, decoded, stream

T, NS = 1_772_352_000, 10**9


def test_the_notation_knows_every_feature() -> None:
    assert set(FEATURES) == set(REDUCTIONS)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_features_are_what_their_names_say(block: list[float]) -> None:
    found = dict(features("a", block, REDUCTIONS))
    n, mean = len(block), math.fsum(block) / len(block)
    variance = math.fsum((x - mean) ** 2 for x in block) / n
    expected = {
        "rms": math.sqrt(math.fsum(x * x for x in block) / n),
        "peak": max(abs(x) for x in block),
        "mean": mean,
        "min": min(block),
        "max": max(block),
        "std": math.sqrt(variance),
    }
    for name, value in expected.items():
        assert found[f"a.{name}"] == pytest.approx(value, rel=1e-9, abs=1e-6)
    if expected["rms"] > 1e-3:
        assert found["a.crest"] == pytest.approx(expected["peak"] / expected["rms"])
    if variance > 1e-3 * max(1.0, mean * mean):
        kurtosis = math.fsum((x - mean) ** 4 for x in block) / n / variance**2
        assert found["a.kurtosis"] == pytest.approx(kurtosis)


@pytest.mark.parametrize("tiny_or_huge", [1e-300, 9.9e-161, 1e100, 1e300])
def test_blocks_at_the_ends_of_the_range_have_features_or_none(tiny_or_huge: float) -> None:
    for value in dict(features("a", [0.0, tiny_or_huge], REDUCTIONS)).values():
        assert value is None or math.isfinite(value)


def test_the_kurtosis_of_normal_noise_is_three_and_of_a_sine_one_and_a_half() -> None:
    noise = np.random.default_rng(0).normal(size=20_000).tolist()
    sine = np.sin(np.arange(1000) * math.tau / 100).tolist()
    assert dict(features("a", noise, ("kurtosis",)))["a.kurtosis"] == pytest.approx(3, abs=0.1)
    assert dict(features("a", sine, ("kurtosis",)))["a.kurtosis"] == pytest.approx(1.5)
    assert dict(features("a", sine, ("crest",)))["a.crest"] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("block", [[], [None, "x", [1]], [1e200, 1e200, -1e200]])
def test_a_block_without_a_number_or_beyond_them_has_no_features(block: list[Any]) -> None:
    assert dict(features("a", block, ("rms", "kurtosis"))) == {"a.rms": None, "a.kurtosis": None}
    assert dict(features("a", [2.0, 2.0], ("kurtosis",))) == {"a.kurtosis": None}


@pytest.mark.parametrize(("rule", "step_ns"), [({"rate": "fs"}, 40_000), ({"step": "dt"}, 250_000_000)])
def test_samples_follow_each_other_by_the_rate_or_the_step(rule: dict[str, Any], step_ns: int) -> None:
    mapping = {"asset": "id", "time": "t", "sensor": "n", "value": "v", "wave": rule | {"explode": True}}
    section = stream(["a"], mapping)
    message = {"id": "m", "t": T, "n": "a", "v": [1, 2, "3"], "fs": "25000", "dt": 0.25}
    assert cells(section, decoded(section, as_record(message))) == [
        ("m", "a", T * NS, 1.0),
        ("m", "a", T * NS + step_ns, 2.0),
        ("m", "a", T * NS + 2 * step_ns, 3.0),
    ]
    assert cells(section, decoded(section, as_record(message | {"v": 5}))) == [("m", "a", T * NS, 5.0)]

"""Blocks of samples: an array of numbers where one is due becomes features of it, or readings at times of their own.

A feature ``rms`` of the sensor ``ax`` is the sensor ``ax.rms``. Samples that stand for no number are left out;
of a block without any the features are missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from daemon.domain import Floats, Reason, Record
from daemon.mapping import WaveRule
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.paths import Scope
from daemon.stream.extract.sources import absence, compile_sources
from daemon.stream.rejection import RejectedError, shown

_NAN: Final = float("nan")
_SLOWEST_S: Final = 10.0 * 366 * 86_400
"""The longest step between two samples."""


def _rms(x: Floats) -> float:
    return math.sqrt(float(np.mean(x * x)))


def _peak(x: Floats) -> float:
    return float(np.max(np.abs(x)))


def _kurtosis(x: Floats) -> float:
    """The fourth moment over the squared variance: 3 for a normal distribution; NaN for a constant block."""
    from_mean = x - np.mean(x)
    variance = float(np.mean(from_mean**2))
    squared = variance * variance  # 0.0 or infinite beyond the range of floats, where a power would raise
    return float(np.mean(from_mean**4)) / squared if squared > 0 else _NAN


def _crest(x: Floats) -> float:
    rms = _rms(x)
    return _peak(x) / rms if rms > 0 else _NAN


FEATURES: Final[Mapping[str, Callable[[Floats], float]]] = {
    "rms": _rms,
    "peak": _peak,
    "kurtosis": _kurtosis,
    "crest": _crest,
    "mean": lambda x: float(np.mean(x)),
    "std": lambda x: float(np.std(x)),
    "min": lambda x: float(np.min(x)),
    "max": lambda x: float(np.max(x)),
}


def features(name: str, block: list[Any], wanted: tuple[str, ...]) -> Iterator[tuple[str, float | None]]:
    """A sensor and its value per feature of a block."""
    numbers = np.array([number for number in map(_number, block) if number == number], np.float64)
    with np.errstate(all="ignore"):
        for feature in wanted:
            value = FEATURES[feature](numbers) if len(numbers) else _NAN
            yield f"{name}.{feature}", value if math.isfinite(value) else None


def _number(found: Any) -> float:
    try:
        return number_of(found)
    except NotANumberError:
        return _NAN


def compile_step(rule: WaveRule) -> Callable[[Scope, Record], float]:
    """The function that gives the seconds from one sample to the next.

    It raises ``RejectedError`` where there is no rate and no step, or it is no number above zero.
    """
    sources = rule.step or rule.rate
    read, is_rate = compile_sources(sources), not rule.step

    def step_of(scope: Scope, record: Record) -> float:
        found = read(scope, record)
        try:
            number = number_of(found if type(found) is not bytes else found.decode(errors="replace"))
        except NotANumberError:
            detail = lambda: f"the rate of the samples: {absence(sources, scope)}"  # noqa: E731 -- it is asked once
            raise RejectedError(Reason.NO_TIMESTAMP, detail) from None
        step = (1.0 / number if number else 0.0) if is_rate else number
        if not 0.0 < step <= _SLOWEST_S:
            raise RejectedError(
                Reason.BAD_TIMESTAMP, f"a rate or step of {shown(found)} gives samples no times"
            )
        return step

    return step_of

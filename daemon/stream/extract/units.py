"""Units of measurement: what a number in one unit is in another, where both are known and of one dimension.

A sensor whose unit changes on the way (a phone that is set to Fahrenheit, a gateway that is replaced) has not changed
itself. Only linear conversions, and only those that are met in plants and houses. A unit that is not known here is the
same as itself, and as nothing else. Upper and lower case count only where they tell two units apart: ``mW`` and ``MW``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from daemon.mapping import SensorRule
from daemon.stream.extract.numbers import NotANumberError
from daemon.stream.text_cache import remember

Linear = tuple[float, float]
"""``(scale, offset)``: the number in the other unit is scale times the number, plus offset."""

_SAME: Final = (1.0, 0.0)
_LONGEST: Final = 64
"""Characters of a unit that count."""
_KEPT: Final = 4096
"""Pairs of a sensor and a unit that are remembered."""
_DIMENSIONS: Final[Mapping[str, Mapping[str, tuple[Linear, str]]]] = {
    "temperature": {  # to kelvin
        "K": ((1.0, 0.0), "kelvin KEL degK"),
        "degC": ((1.0, 273.15), "°C C Cel CEL celsius deg_C degreeC degreesC degreeCelsius degreesCelsius"),
        "degF": (
            (5.0 / 9.0, 459.67 * 5.0 / 9.0),
            "°F F [degF] FAH fahrenheit deg_F degreeF degreesF degreeFahrenheit degreesFahrenheit",
        ),
        "degR": ((5.0 / 9.0, 0.0), "°R rankine"),
    },
    "pressure": {  # to pascal
        "mPa": ((1e-3, 0.0), "millipascal"),
        "Pa": ((1.0, 0.0), "PAL pascal"),
        "hPa": ((100.0, 0.0), "mbar MBR A97 millibar hectopascal"),
        "kPa": ((1e3, 0.0), "KPA kilopascal"),
        "MPa": ((1e6, 0.0), "MPA Mpa megapascal"),
        "bar": ((1e5, 0.0), "BAR bara"),
        "psi": ((6894.757293168361, 0.0), "PS psia lbf/in2 [psi]"),
        "atm": ((101_325.0, 0.0), "ATM"),
        "mmHg": ((133.322387415, 0.0), "Torr torr mm[Hg]"),
        "inHg": ((3386.388640341, 0.0), "in[Hg]"),
    },
    "power": {  # to watt
        "mW": ((1e-3, 0.0), "milliwatt"),
        "W": ((1.0, 0.0), "WTT watt watts"),
        "kW": ((1e3, 0.0), "KWT KW kilowatt"),
        "MW": ((1e6, 0.0), "MAW megawatt"),
        "hp": ((745.6998715822702, 0.0), "HP BHP [HP] horsepower"),
    },
    "flow": {  # to cubic metres per second
        "m3/s": ((1.0, 0.0), "MQS cms"),
        "m3/min": ((1.0 / 60.0, 0.0), "G53"),
        "m3/h": ((1.0 / 3600.0, 0.0), "MQH m3/hr cmh"),
        "l/s": ((1e-3, 0.0), "G51 L/s lps"),
        "l/min": ((1e-3 / 60.0, 0.0), "L2 L/min lpm LPM"),
        "l/h": ((1e-3 / 3600.0, 0.0), "E32 L/h lph l/hr"),
        "gpm": ((3.785411784e-3 / 60.0, 0.0), "GPM gal/min G2"),
        "cfm": ((0.028316846592 / 60.0, 0.0), "CFM ft3/min"),
    },
    "speed": {  # to metres per second
        "mm/s": ((1e-3, 0.0), "C16"),
        "m/s": ((1.0, 0.0), "MTS mps"),
        "m/min": ((1.0 / 60.0, 0.0), ""),
        "km/h": ((1.0 / 3.6, 0.0), "KMH kmh kph"),
        "mph": ((0.44704, 0.0), "HM mi/h"),
        "kn": ((1852.0 / 3600.0, 0.0), "KNT kt kts knot knots [kn_i]"),
        "ft/s": ((0.3048, 0.0), "FS fps"),
        "in/s": ((0.0254, 0.0), "IU ips"),
    },
    "length": {  # to metres
        "µm": ((1e-6, 0.0), "um 4H micrometre micrometer micron"),
        "mm": ((1e-3, 0.0), "MMT millimetre millimeter"),
        "cm": ((1e-2, 0.0), "CMT centimetre centimeter"),
        "m": ((1.0, 0.0), "MTR metre meter"),
        "km": ((1e3, 0.0), "KMT KTM kilometre kilometer"),
        "in": ((0.0254, 0.0), "INH inch inches [in_i]"),
        "ft": ((0.3048, 0.0), "FOT foot feet [ft_i]"),
        "yd": ((0.9144, 0.0), "YRD yard"),
        "mi": ((1609.344, 0.0), "SMI mile miles [mi_i]"),
    },
    "share": {  # to percent
        "%": ((1.0, 0.0), "P1 percent pct"),
    },
}
"""By dimension and unit, how it becomes the dimension's own unit, and its other names."""


def _plain(unit: str) -> str:
    """The beginning of a unit that counts, without the ways to write the same signs."""
    unit = unit[:_LONGEST]
    for sign, same in (("\u03bc", "µ"), ("º", "°"), ("³", "3"), ("²", "2"), ("^", "")):
        unit = unit.replace(sign, same)
    return "".join(unit.split())


_Unit = tuple[str, str, Linear]
_KNOWN: Final[Mapping[str, _Unit]] = MappingProxyType(
    {
        _plain(name): (dimension, unit, linear)
        for dimension, units in _DIMENSIONS.items()
        for unit, (linear, others) in units.items()
        for name in (unit, *others.split())
    }
)


def _in_any_case() -> Mapping[str, _Unit]:
    """The units by their names in one case, without names that more than one unit has then."""
    by_name: dict[str, dict[str, _Unit]] = {}
    for name, found in _KNOWN.items():
        is_code = (
            1 < len(name) <= 3 and name.isalnum() and name.isupper()
        )  # of UN/CEFACT: HM is mph, and hm is none
        if name == found[1] or not is_code:
            by_name.setdefault(name.casefold(), {})[found[1]] = found
    return MappingProxyType(
        {name: next(iter(all_of.values())) for name, all_of in by_name.items() if len(all_of) == 1}
    )


_IN_ANY_CASE: Final = _in_any_case()


def conversion(given: str, wanted: str) -> Linear | None:
    """How a number in one unit becomes one in another; None where they have nothing in common."""
    given, wanted = _plain(given), _plain(wanted)
    if given == wanted:
        return _SAME
    one, other = _find(given), _find(wanted)
    if one is None and other is None and _differ_in_case(given, wanted):
        return _SAME
    if one is None or other is None or one[0] != other[0]:
        return None
    if one[1] == other[1]:
        return _SAME
    (scale, offset), (to_scale, to_offset) = one[2], other[2]
    return scale / to_scale, (offset - to_offset) / to_scale


def _differ_in_case(given: str, wanted: str) -> bool:
    """Whether two unknown units are one in upper and lower case; milli and mega (``mV``, ``MV``) are not."""
    of_prefix = given[:1] != wanted[:1] and given[:1] in "mM" and given[1:2].isalpha()
    return given.casefold() == wanted.casefold() and not of_prefix


class Units:
    """Converts the numbers of a stream's sensors to the unit of each.

    Args:
        rules: one per sensor.

    Attributes:
        counts: numbers that were converted, by the place of the sensor and the unit that they came in.
    """

    def __init__(self, rules: Sequence[SensorRule]) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()
        self._wanted = [rule.unit for rule in rules]
        self._missing = [rule.missing for rule in rules]
        self._known: dict[tuple[int, str], Linear | None] = {}

    def converted(self, number: float, place: int, given: Any) -> float:
        """A number that came in the unit ``given``, as the message has it, in the sensor's own; sentinels have none.

        Raises:
            NotANumberError: there is no way from one unit to the other.
        """
        wanted = self._wanted[place]
        if wanted is None or type(given) is not str or not given or number in self._missing[place]:
            return number
        key = place, given[:_LONGEST]
        if key in self._known:
            linear = self._known[key]
        else:
            linear = conversion(key[1], wanted)
            remember(self._known, key, linear, _KEPT)
        if linear is None:
            raise NotANumberError("unit")
        if linear == _SAME:
            return number
        if len(self.counts) < _KEPT or key in self.counts:
            self.counts[key] += 1
        return number * linear[0] + linear[1]


def is_unit(text: str) -> bool:
    """Whether a text is a unit that can be converted."""
    return _find(_plain(text)) is not None


def _find(unit: str) -> _Unit | None:
    return _KNOWN.get(unit) or _IN_ANY_CASE.get(unit.casefold())

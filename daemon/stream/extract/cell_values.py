"""The values of cells on their way into a reading: which sensor's they are, and the number that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from daemon.domain import Reading, StreamSpec
from daemon.mapping import InputMapping
from daemon.stream.extract.cells import Cell
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.fields import SensorNames

_NAN: Final = float("nan")


class CellValues:
    """Puts values into readings.

    Args:
        spec: the stream, with its mapping.
        renamed: whether cells come with the names of ``rename`` already.
        sensor_names: counts the cells of sensors that the stream does not have.
        note_corrupt: called with the place of the sensor, the fault and the value of each cell that is no number.

    Attributes:
        index: the place of each sensor, by every name that its cells have.
        plain: whether a finite number is its own value, whatever the sensor.
    """

    def __init__(
        self,
        spec: StreamSpec,
        renamed: bool,
        sensor_names: SensorNames,
        note_corrupt: Callable[[int, str, Any], None],
    ) -> None:
        assert spec.input is not None
        self.index = _index(spec, spec.input, renamed)
        self._sensor_names, self._note_corrupt = sensor_names, note_corrupt
        self._states = [rule.states for rule in spec.rules]
        self._values = SensorValues(spec.rules)
        words = spec.input.missing
        self._missing = words | {float(word) for word in words if isinstance(word, int | float)}
        self.plain = not self._missing and self._values.plain

    def put_all(self, reading: Reading, cells: Sequence[Cell], trusted: bool) -> bool:
        """Put cells of any sensor into a reading; whether one is of a sensor of the stream."""
        index, plain, used = self.index, trusted and self.plain, False
        for name, value in cells:
            place = index.get(name)
            if place is None:
                if type(value) is not list:
                    self._sensor_names.find(name)
                continue
            used, bit = True, 1 << place
            if plain and type(value) is float and value - value == 0.0 and not reading.reported & bit:
                reading.values[place] = value  # type: ignore[index]
                reading.reported |= bit
            else:
                self.put(reading, place, value, trusted)
        return used

    def put(self, reading: Reading, place: int, value: Any, trusted: bool) -> None:
        """Put the value of a sensor into a reading; a corrupt or untrusted one is missing there."""
        try:
            number = self._number(value, place) if trusted else _NAN
        except NotANumberError as error:
            number = _NAN
            self._note_corrupt(place, error.fault, value)
        reading.values[place] = number  # type: ignore[index]
        reading.reported |= 1 << place

    def _number(self, value: Any, place: int) -> float:
        missing = self._missing
        if missing and type(value) is not dict and type(value) is not list and value in missing:
            return _NAN
        number = number_of(value, self._states[place])
        if missing and number in missing:
            return _NAN
        return number if self._values.plain else self._values.apply_one(number, place)


def _index(spec: StreamSpec, mapping: InputMapping, renamed: bool) -> Mapping[str, int]:
    places = {
        rule.source or name: place
        for place, (name, rule) in enumerate(zip(spec.sensors, spec.rules, strict=True))
    }
    index = dict(places)
    for old, (_, new) in () if renamed else mapping.rename.items():
        index.pop(old, None)
        if new in places:
            index[old] = places[new]
    return index

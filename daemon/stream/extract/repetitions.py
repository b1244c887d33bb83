"""Values that a message gives again, of sensors whose values within one row are reduced to one.

Each counts, as it would in a message of its own: what becomes of a row must not depend on how a producer puts
values together. So the first value of a sensor goes into the reading of its asset and time, the next one into a
second reading of the same, and so on.
"""

from __future__ import annotations

from collections import Counter

from daemon.domain import Reading

_NAN = float("nan")


class Repetitions:
    """The readings of one message after the first one of each asset and time.

    Args:
        sensors: C.

    Attributes:
        readings: of an asset and time in the order in which a sensor's values came.
    """

    def __init__(self, sensors: int) -> None:
        self.readings: list[Reading] = []
        self._sensors = sensors
        self._given: Counter[tuple[str, int, int]] = Counter()  # repetitions by asset, time and sensor
        self._by_number: dict[
            tuple[str, int, int], Reading
        ] = {}  # by asset, time and number of the repetition

    def clear(self) -> None:
        """Another message begins."""
        self.readings = []
        self._given.clear()
        self._by_number.clear()

    def is_new(self, first: Reading, sensor: int) -> bool:
        """Whether the next repetition of a sensor needs one more reading."""
        number = self._given[first.asset, first.time_ns, sensor] + 1
        return (first.asset, first.time_ns, number) not in self._by_number

    def next(self, first: Reading, sensor: int) -> Reading:
        """The reading for one more value of a sensor, beside the first reading of its asset and time."""
        self._given[first.asset, first.time_ns, sensor] += 1
        place = first.asset, first.time_ns, self._given[first.asset, first.time_ns, sensor]
        reading = self._by_number.get(place)
        if reading is None:
            reading = Reading(
                first.offset,
                first.asset,
                first.time_ns,
                [_NAN] * self._sensors,
                condition=first.condition,
                stamp_ns=first.stamp_ns,
                reported=0,
            )
            self._by_number[place] = reading
            self.readings.append(reading)
        return reading

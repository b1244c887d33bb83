"""Messages of json-wide and json-long decoded together: a piece of some hundred records, rule by rule.

Why: an object and a call per rule and record would cost more than the rules. Here each rule is applied to a column
of the piece: event times are converted as numbers or looked up by their texts, assets and sensors are looked up,
condition labels are remembered by the text of the condition, values become one array.

Input: records. Output: a ``Piece``, the columns of the *usual* records. A record is *odd* if any rule finds it so
(another sensor, a text that is no number, no asset ...): it is left out, and the rest of the piece stays together.
``decoding`` decodes the odd ones alone, by the same rules in their full form. An odd record changes nothing here
but what is remembered, so that nothing is counted twice.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise, starmap
from typing import Any, Final

import msgspec
import numpy as np

from daemon.domain import (
    NO_CONDITION,
    RECORD_KEY,
    RECORD_TIMESTAMP,
    Floats,
    Format,
    Ints,
    Mask,
)
from daemon.stream.decode.struct_lines import LineParser
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.fields import ConditionLabels, FieldRules
from daemon.stream.messages import MessageParser
from daemon.stream.rejection import RejectedError
from daemon.stream.text_cache import remember
from daemon.stream.time_range import FUTURE_NS
from daemon.stream.timestamps import INT64_MAX, epoch_numbers_ns

LABELS_KEPT: Final = 8192
"""Texts of conditions whose labels are remembered."""
_KEYS: Final = frozenset((str, bytes, int))


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The usual ones of some records, as columns."""

    which: list[int]  # (B,) their places among the records
    assets: list[str]
    times: Ints  # (B,)
    values: Floats  # (B, C) of a wide stream, (B,) of a long one
    sensors: Sequence[int]  # (B,) of a long stream
    conditions: list[str]

    def runs(self) -> Iterator[tuple[int, int]]:
        """Where records follow each other without an odd one between: the bounds in these columns."""
        which = self.which
        if which and which[-1] - which[0] == len(which) - 1:  # nearly always
            yield 0, len(which)
        elif which:
            breaks = (np.flatnonzero(np.diff(which) != 1) + 1).tolist()
            yield from pairwise([0, *breaks, len(which)])


class _OddError(Exception):
    """A rule found some of the messages odd: their places in the piece."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(places)
        self.places = places


class PieceDecoder:
    """Decodes pieces of one typed stream.

    Args:
        rules: of the stream's fields.
        parser: of its messages; it must have a ``parse_piece``.
    """

    def __init__(self, rules: FieldRules, parser: MessageParser) -> None:
        spec = rules.spec
        self._long = spec.format is Format.JSON_LONG
        assert parser.parse_piece is not None
        self._lines = LineParser(parser.parse_piece, parser.parse_texts)
        self._asset_ids, self._sensor_names, self._event_times = (
            rules.asset_ids,
            rules.sensor_names,
            rules.event_times,
        )
        self._labels = rules.labels
        self._label_of: dict[bytes, str] = {}
        self._asset_conditions = bool(spec.assets)  # a label then depends on the asset, too
        self._asset_in_key = spec.fields.asset == RECORD_KEY
        self._sensor_in_key = spec.fields.sensor == RECORD_KEY
        self._time_in_record = spec.fields.timestamp == RECORD_TIMESTAMP
        self._states = [rule.states for rule in spec.rules]
        self._has_states = any(self._states)
        self._pack = struct.Struct(f"{len(spec.sensors)}d").pack

    def decode(
        self, keys: Sequence[bytes | None], lines: Sequence[bytes], stamps: Ints, max_bytes: int
    ) -> Piece:
        """The columns of those of the records that are usual.

        Args:
            keys, lines, stamps: (B,) the keys, values and times of the records.
            max_bytes: a longer record is odd.
        """
        which, messages = self._lines.parsed(lines, max_bytes)
        if not (self._asset_in_key or self._sensor_in_key):
            keys = ()
        if len(which) < len(lines):
            keys, stamps = [keys[i] for i in which] if keys else (), stamps[which]
        while messages:
            try:
                return self._columns(which, messages, keys, stamps)
            except _OddError as odd:
                usual = np.ones(len(messages), bool)
                usual[odd.places] = False
                which, messages = list(compress(which, usual)), list(compress(messages, usual))
                keys, stamps = list(compress(keys, usual)), stamps[usual]
        return Piece([], [], np.empty(0, np.int64), np.empty(0), [], [])

    def _columns(
        self, which: list[int], messages: list[Any], keys: Sequence[bytes | None], stamps: Ints
    ) -> Piece:
        """The columns of these messages.

        Raises:
            _OddError: some of them are odd.
        """
        assets = self._assets(keys if self._asset_in_key else [message.asset for message in messages])
        times = stamps if self._time_in_record else self._times([message.ts for message in messages])
        latest = np.where(stamps >= 0, np.minimum(stamps, INT64_MAX - FUTURE_NS) + FUTURE_NS, INT64_MAX)
        _refuse((times < 0) | (times > latest))
        conditions = [NO_CONDITION] * len(messages)
        if self._labels is not None:
            conditions = self._conditions(self._labels, messages, assets)
        if not self._long:
            return Piece(which, assets, times, self._cells(messages), (), conditions)
        places = self._places(keys if self._sensor_in_key else [message.sensor for message in messages])
        values = self._numbers([message.value for message in messages], places)
        return Piece(which, assets, times, values, places, conditions)

    # -------------------------------------------------------------- structs to columns
    def _assets(self, found: Sequence[Any]) -> list[str]:
        valid = self._asset_ids.valid
        if _KEYS.issuperset(map(type, found)):
            try:
                return [valid[each] for each in found]
            except KeyError:
                pass
        return _each(found, self._asset_ids.read)

    def _times(self, found: list[Any]) -> Ints:
        known, parse = self._event_times.known, self._event_times.parse
        try:  # texts, all of which came before
            return np.array([known[each] for each in found], np.int64)
        except (KeyError, TypeError, OverflowError):
            pass
        kinds = set(map(type, found))
        if kinds == {str}:
            try:
                for text in set(found).difference(known):
                    parse(text)
                return np.array([known[text] for text in found], np.int64)
            except (KeyError, RejectedError, OverflowError):  # one is too long to be remembered, or no time
                pass
        elif kinds == {int} or kinds == {float}:
            times = epoch_numbers_ns(found)
            if times is not None:
                return times

        def time_of(each: Any) -> int:
            ns = known.get(each) if type(each) is str else None
            ns = parse(each) if ns is None else ns
            return ns if 0 <= ns <= INT64_MAX else -1

        return np.array(_each(found, time_of), np.int64)

    def _conditions(self, labels: ConditionLabels, messages: list[Any], assets: list[str]) -> list[str]:
        raw = [bytes(message.condition) for message in messages]
        if self._asset_conditions:
            raw = [each + b"\0" + asset.encode() for each, asset in zip(raw, assets, strict=True)]
        label_of = self._label_of
        try:
            return [label_of[each] for each in raw]
        except KeyError:
            pass

        def label(i: int) -> str:
            known = label_of.get(raw[i])
            if known is None:
                given = bytes(messages[i].condition)
                known = labels.label(msgspec.json.decode(given) if given else None, assets[i])
                remember(label_of, raw[i], known, LABELS_KEPT)
            return known

        return _each(range(len(raw)), label)

    def _places(self, found: Sequence[Any]) -> list[int]:
        places = self._sensor_names.places
        try:
            return [places[each] for each in found]
        except (KeyError, TypeError):  # another sensor, or no name at all
            named = (each if type(each) in (str, bytes) else None for each in found)
            raise _OddError([i for i, each in enumerate(named) if each not in places]) from None

    def _cells(self, messages: list[Any]) -> Floats:
        """(B, C) the values of wide messages."""
        cells = [message.values for message in messages]
        odd = [i for i, each in enumerate(cells) if each is None] if None in cells else []
        if odd:
            raise _OddError(odd)
        rows = map(msgspec.structs.astuple, cells)
        try:  # twice as fast as anything numpy has for it
            values = np.frombuffer(b"".join(starmap(self._pack, rows)), np.float64)
        except struct.error:  # a null, which stands for no value; or a text of a sensor with states
            given = [msgspec.structs.astuple(each) for each in cells]
            if self._has_states:
                given = _each(given, self._with_states)
            values = np.array(given, np.float64)
        values = values.reshape(len(cells), -1)
        infinite = np.isinf(values)
        if infinite.any():
            _refuse(np.asarray(infinite.any(1)))
        return values

    def _numbers(self, found: list[Any], places: list[int]) -> Floats:
        """(B,) the values of long messages."""
        if not {float, bool, type(None)}.issuperset(map(type, found)):

            def number(i: int) -> float:
                if found[i] is msgspec.UNSET:
                    raise NotANumberError("text")
                return number_of(found[i], self._states[places[i]])

            found = _each(range(len(found)), number)
        values = np.array(found, np.float64)
        _refuse(np.isinf(values))
        return values

    def _with_states(self, row: Sequence[Any]) -> list[float]:
        return [number_of(each, states) for each, states in zip(row, self._states, strict=True)]


def _each(found: Iterable[Any], rule: Callable[[Any], Any]) -> list[Any]:
    """The rule applied to each.

    Raises:
        _OddError: it refuses some of them.
    """
    made, odd = [], []
    for i, each in enumerate(found):
        try:
            made.append(rule(each))
        except (RejectedError, ValueError, OverflowError, RecursionError):
            odd.append(i)
    if odd:
        raise _OddError(odd)
    return made


def _refuse(odd: Mask) -> None:
    """Raise ``_OddError`` for the messages that are marked."""
    if odd.any():
        raise _OddError(np.flatnonzero(odd).tolist())

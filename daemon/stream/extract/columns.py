"""Readings of mapped messages as columns: a piece of some hundred records, rule by rule.

Why: ``Extractor`` makes an object and calls a function per rule and item, which costs more than the rules. Here the
messages of a piece are decoded into structs of one *shape* (``shapes``), and each rule is applied to a column
(``column_rules``): the assets of all items, their times, their values. What ``piece_decoding`` is to json-wide and
json-long, this is to mapped JSON.

Input: records. Output: a ``MappedPiece``, the readings of the *usual* records. A record is *odd* if it is not of the
shape, or any rule finds something in it that needs a closer look: a text that is no number, the bad name of an
asset, a sensor given twice. It is left out, the rest of the piece stays together, and ``Extractor`` reads it: so the
results are the same for both, and nothing is counted twice.

A mapping fits messages of several shapes, and messages may have fields that are no sensors of the stream. Both are
found out from the messages that come: ``_adapt``. It changes the cost of a message, not its readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, Final

import numpy as np

from daemon.domain import Ints, StreamSpec
from daemon.mapping import Assembly, InputMapping, Reduce
from daemon.stream.decode.json_text import json_tree
from daemon.stream.decode.struct_lines import LineParser
from daemon.stream.extract.cells import Leaves
from daemon.stream.extract.column_rules import ColumnRules, MappedPiece
from daemon.stream.extract.elements import Elements, OddError
from daemon.stream.extract.extractor import differs_by_cell
from daemon.stream.extract.items import compile_each
from daemon.stream.extract.sensor_index import index_of
from daemon.stream.extract.shape_plans import ShapePlan, Way, plan_of
from daemon.stream.extract.shapes import UnfitError, ways_of
from daemon.stream.fields import FieldRules
from daemon.stream.rejection import RejectedError
from daemon.stream.text_cache import LONGEST_TEXT

PATIENCE: Final = 64
"""Pieces that go the long way after some of which most records were odd; also, after which a search is repeated."""
TOLERATED: Final = 16
"""One in so many records may be of another shape before another shape is looked for."""
TRIED: Final = 3
"""Lines of a piece that shapes are tried on."""
MOST_IGNORED: Final = 256
"""Names of fields that are no sensors, which a shape may have."""


def may_have_columns(spec: StreamSpec) -> bool:
    """Whether the messages of a stream may be read as columns, as far as its mapping says."""
    mapping = spec.input
    if mapping is None or mapping.decode.kind != "json" or mapping.decode.unwrap or mapping.decode.options:
        return False
    if mapping.inner or mapping.wave is not None or mapping.time.plus or not mapping.asset:
        return False
    if mapping.assembly is Assembly.WHOLE and any(rule.reduce is not Reduce.FIRST for rule in spec.rules):
        return False
    if differs_by_cell(mapping):
        return False
    index = index_of(spec)
    if mapping.sensor:
        return True
    if mapping.leaves is not None:
        return Leaves(mapping).is_plain(index)
    return index.keys() >= mapping.fields.keys()


class MappedColumns:
    """Decodes and extracts pieces of one mapped stream.

    Args:
        rules: of the fields of the stream; ``may_have_columns`` says that it may have some.
        most: readings of one message; one with more items is odd.
    """

    def __init__(self, rules: FieldRules, most: int) -> None:
        spec = rules.spec
        assert spec.input is not None
        has_units = any(rule.unit for rule in spec.rules)
        self._mapping: InputMapping = spec.input if has_units else replace(spec.input, unit=())
        self._rules = ColumnRules(rules, most)
        self._has_states = any(rule.states for rule in spec.rules)
        # A text may stand for another number than the one that it shows.
        self._reads_texts = not self._has_states and not any(
            type(one) is str for one in self._mapping.missing
        )
        self._ignored: list[str] = []
        self._plans: dict[Way, ShapePlan | None] = {}
        self._plan: ShapePlan | None = None
        self._lines: LineParser | None = None
        self._rest, self._patience = 0, 1  # pieces that go the long way, and how many the next time
        self._settled = 0  # pieces in which no other shape is looked for

    def decode(
        self, keys: Sequence[bytes | None], lines: Sequence[bytes], stamps: Ints, max_bytes: int
    ) -> MappedPiece | None:
        """The columns of those of the records that are usual; None: there are none.

        Args:
            keys, lines, stamps: (B,) the keys, values and times of the records.
            max_bytes: a longer record is odd.
        """
        if self._rest:
            self._rest -= 1
            return None
        which, messages = self._parsed(lines, max_bytes)
        if TOLERATED * (len(lines) - len(which)) > len(lines):
            odd = sorted(set(range(len(lines))).difference(which))[:TRIED]
            if self._adapt(
                [lines[i] for i in odd if len(lines[i]) <= max_bytes], len(which) * 2 < len(lines)
            ):
                which, messages = self._parsed(lines, max_bytes)
        found = self._usual(which, messages, keys, stamps, lines)
        if found is None or len(np.unique(found.records)) * 2 < len(lines):
            self._rest, self._patience = self._patience, min(2 * self._patience, PATIENCE)
        else:
            self._patience = 1
        return found

    def _parsed(self, lines: Sequence[bytes], max_bytes: int) -> tuple[list[int], list[Any]]:
        return ([], []) if self._lines is None else self._lines.parsed(lines, max_bytes)

    def _usual(
        self,
        which: list[int],
        messages: list[Any],
        keys: Sequence[bytes | None],
        stamps: Ints,
        lines: Sequence[bytes],
    ) -> MappedPiece | None:
        """The columns of the messages that no rule finds odd; ``which``: the places of their records."""
        while messages:
            assert self._plan is not None
            try:
                piece = self._rules.piece(
                    self._plan,
                    messages,
                    [keys[i] for i in which],
                    stamps[which],
                    [lines[i] for i in which],
                )
            except OddError as odd:
                usual = np.ones(len(messages), bool)
                usual[odd.places] = False
                which, messages = list(compress(which, usual)), list(compress(messages, usual))
            else:
                return piece.of(np.array(which))
        return None

    # -------------------------------------------------------------- which shape
    def _adapt(self, lines: Sequence[bytes], most_are_odd: bool) -> bool:
        """Look for a shape of lines that are not of the one at hand; whether there is another now.

        Where only some lines are odd the shape stays, but for fields of theirs that are no sensors.
        """
        if self._settled and not most_are_odd:
            self._settled -= 1
            return False
        for line in lines:
            learned = self._learn_names(line)
            if learned:
                self._plans.clear()
            plan = self._fitting(line) if learned or most_are_odd else None
            if plan is not None and plan is not self._plan:
                self._plan = plan
                self._lines = LineParser(plan.parse, plan.parse_texts if self._reads_texts else None)
                return True
        self._settled = PATIENCE
        return False

    def _fitting(self, line: bytes) -> ShapePlan | None:
        """The first shape that a line has."""
        for way in ways_of(self._mapping):
            if way not in self._plans:
                self._plans[way] = self._planned(way)
            plan = self._plans[way]
            if plan is not None and _fits(plan, line):
                return plan
        return None

    def _planned(self, way: Way) -> ShapePlan | None:
        try:
            return plan_of(self._mapping, way, self._rules.names, self._ignored, texts=self._has_states)
        except UnfitError:
            return None

    def _learn_names(self, line: bytes) -> bool:
        """Remember the fields beside the sensors of a message that are none; whether there are new ones."""
        if self._mapping.leaves is None or self._mapping.sensor:
            return False
        if len(self._ignored) >= MOST_IGNORED:  # those that still come are learned again
            self._ignored.clear()
        try:
            tree = json_tree(line)
        except RejectedError:
            return False
        leaves, known, before = (
            Leaves(self._mapping),
            {*self._rules.names, *self._ignored},
            len(self._ignored),
        )
        for scope in (compile_each(self._mapping.each)(tree) or [])[:TRIED]:
            root, left_out = leaves.root(scope)
            for name, value in (root or {}).items():
                if name in known or name in left_out:
                    continue
                if type(value) is not dict and len(name) <= LONGEST_TEXT:
                    self._ignored.append(name)
                    known.add(name)
        del self._ignored[MOST_IGNORED:]
        return len(self._ignored) > before


def _fits(plan: ShapePlan, line: bytes) -> bool:
    """Whether a line is of a shape."""
    for parse in (plan.parse, plan.parse_texts):
        try:
            found = Elements(plan.shape, [parse(line)], [None])
            for column in plan.shape.absent:
                found.refuse_present(column)
        except (ValueError, RecursionError, OddError):
            continue
        return found.items > 0
    return False

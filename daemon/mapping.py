"""How the messages of a stream are read: the values of the mapping language (``input:`` in the configuration).

Three layers read a message, and each has its part here: *decode* makes a tree of bytes (``DecodeRule``),
*extract* makes readings of the tree (``InputMapping``), *assemble* makes rows of readings (``Assembly`` and
``SensorRule``). ``config.input_notation`` parses the language, ``stream.decode`` and ``stream.extract`` compile
these values to functions, once per stream. Nothing here has behaviour but the texts of paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Assembly(StrEnum):
    """How readings become rows."""

    WHOLE = "whole"  # each record is a whole row: what it does not have is missing
    GATHER = "gather"  # a row is gathered from several records, until every sensor has reported


class Reduce(StrEnum):
    """Which of several values of a sensor within one period counts."""

    FIRST = "first"
    LAST = "last"
    MEAN = "mean"
    MAX = "max"
    MIN = "min"


# ------------------------------------------------------------------ paths
@dataclass(frozen=True, slots=True)
class Key:
    """``name``: a field of an object."""

    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """``[0]``: an element of an array; negative from its end."""

    at: int


@dataclass(frozen=True, slots=True)
class Where:
    """``[key=value]``: the first element of an array whose field ``key`` has this text."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Bound:
    """``[$name]``, ``[$name_qc]``: the field called as the key that ``*`` bound, or as the sensor at hand."""

    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Elements:
    """``[]``: every element of an array; only in ``each``."""


@dataclass(frozen=True, slots=True)
class Members:
    """``*``: every value of an object, its key bound to ``$name``; only in ``each``."""


@dataclass(frozen=True, slots=True)
class Zip:
    """``zip``: arrays beside each other, their elements of one place being one item; the last step of ``each``.

    ``columns`` are the fields that hold the arrays, and name the elements; (): every field that is an array.
    """

    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """``rows``: an array of arrays, each an item whose elements are named; the last step of ``each``."""

    rows: tuple[PathStep, ...]
    columns: tuple[PathStep, ...] | tuple[str, ...]  # where an array of the names is, or the names


PathStep = Key | Index | Where | Bound | Elements | Members | Zip | Table


@dataclass(frozen=True, slots=True)
class Path:
    """Where something is, seen from an item of ``each`` (or from the message, where there is no ``each``).

    ``up`` counts the leading ``^``: so many levels further out. A level is the message, each ``[]`` and ``*`` of
    ``each``, and where its path ends.
    """

    text: str  # as it was written; quoted in every reason
    steps: tuple[PathStep, ...]
    up: int = 0


# ------------------------------------------------------------------ where a value comes from
class Origin(StrEnum):
    """What a ``Source`` reads."""

    PATH = "path"
    KEY = "$key"  # the record's key: its text, or with a path, a field of the JSON in it
    TIMESTAMP = "$timestamp"  # the record's own time
    TOPIC = "$topic"
    HEADER = "$header"
    NAME = "$name"  # the key that ``*`` bound
    CONSTANT = "constant"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Source:
    """One place that an asset, a sensor, a time or a condition may come from."""

    origin: Origin
    text: str  # as it was written; quoted in every reason
    path: Path | None = None  # PATH; KEY: within the key's JSON
    name: str = ""  # HEADER: its name; CONSTANT: the text; JOIN: the separator
    up: int = 0  # NAME: so many explosions further out
    match: re.Pattern[str] | None = None  # the value is a group of this expression, or absent
    group: int | str = 0
    parts: tuple[Source, ...] = ()  # JOIN


Sources = tuple[Source, ...]
"""Fallbacks in order: the first that is present counts."""


# ------------------------------------------------------------------ the layers
@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where the schemas are that messages name, and as whom they are read; secrets stay in their files."""

    urls: tuple[str, ...]  # of one registry; the next is asked where one does not answer
    username: str | None = None
    password_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    timeout_s: float = 10.0  # of one request


@dataclass(frozen=True, slots=True)
class DecodeRule:
    """Layer 1: bytes to a tree of dicts, lists, texts and numbers."""

    kind: str = "json"
    unwrap: tuple[str, ...] = ()  # before decoding, in order: base64, gzip, zlib, confluent
    options: Mapping[str, object] = field(default_factory=dict)  # of the kind; of files, what they hold
    registry: RegistryAddress | None = None  # of the schemas that messages name


@dataclass(frozen=True, slots=True)
class InnerRule:
    """A text (or bytes) within the tree that is decoded and put in its place."""

    path: Path
    decode: DecodeRule = DecodeRule()


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Messages (or items of ``each``) that are no readings: they are counted, and no dead letter is written."""

    name: str  # counted under it
    source: Source | None = None  # None: a record without a value
    item: bool = False  # it is looked for in each item, and skips the item alone
    values: frozenset[object] | None = None  # in: these; None: whatever is there
    negated: bool = False  # not in these; or, without values, where nothing is there

    @property
    def path(self) -> Path | None:
        """Where it looks in the tree; None: elsewhere."""
        return None if self.source is None else self.source.path


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Where the event time is and how it is written."""

    sources: Sources
    unit: str = "auto"  # of a number: s, ms, us, ns; auto: by its size
    formats: tuple[str, ...] = ()  # of ``strptime``, tried in order, where ISO 8601 does not do
    plus: Sources = ()  # a number that is added, as the nanoseconds beside seconds
    plus_unit: str = "ns"
    day_first: bool | None = None  # of 02/03/2026: whether it is in March; None: such dates are refused


@dataclass(frozen=True, slots=True)
class LeavesRule:
    """Every leaf below a place is a reading, its sensor named by the way to it."""

    under: tuple[Path, ...]  # the first that is an object
    leave_out: tuple[str, ...] = ()  # names of leaves or of whole branches, * and ? as in a shell
    separator: str = "."
    prefix: Sources = ()  # stands before each name, with a separator
    arrays: bool = False  # elements of arrays are leaves too, named by their index; else arrays are left out


@dataclass(frozen=True, slots=True)
class QualityRule:
    """How a reading says that its value is not to be trusted; absent is good, bad is a missing cell."""

    sources: Sources
    code: str | None = (
        None  # opc-ua: severity in the two top bits; opc-da and sparkplug: 192 and above are good
    )
    good: frozenset[object] = frozenset()
    bad: frozenset[object] = frozenset()  # without both: the words and booleans that everybody uses
    uncertain: str = "keep"  # or drop


@dataclass(frozen=True, slots=True)
class WaveRule:
    """Leaves that are arrays of numbers: a block of samples with a rate."""

    reduce: tuple[str, ...] = (
        "rms",
        "peak",
        "kurtosis",
    )  # a sensor each, NAME.rms; (): readings of their own
    rate: Sources = ()  # samples per second
    step: Sources = ()  # or seconds per sample


@dataclass(frozen=True, slots=True)
class InputMapping:
    """Layer 2: a tree to readings (asset, sensor, event time, value, quality).

    Each item of ``each`` (without it: the message) holds readings of one asset at one time, in one of three
    ways: ``sensor`` with ``value`` is one reading; ``fields`` names places of sensors; ``leaves`` takes all.
    """

    preset: str  # its name; "custom" for one that the configuration has written itself
    decode: DecodeRule = DecodeRule()
    inner: tuple[InnerRule, ...] = ()
    skip: tuple[SkipRule, ...] = ()
    each: tuple[Path, ...] = ()  # the first that yields items; (): the message, or the elements of an array
    asset: Sources = ()
    time: TimeRule = TimeRule(())
    sensor: Sources = ()
    value: tuple[Path, ...] = ()  # the first that is present
    fields: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    leaves: LeavesRule | None = None
    wave: WaveRule | None = None
    quality: QualityRule | None = None
    unit: Sources = ()  # of the values; ``SensorRule.unit`` says which one is wanted
    missing: frozenset[object] = frozenset()  # texts and numbers that stand for no value
    condition: Mapping[str, Sources] = field(default_factory=dict)
    rename: Mapping[str, tuple[str | None, str]] = field(
        default_factory=dict
    )  # sensor -> (asset or None, sensor)
    assembly: Assembly = Assembly.GATHER

    def asking(self, registry: RegistryAddress) -> InputMapping:
        """The same, with whom its decoders ask for schemas."""
        inner = tuple(replace(rule, decode=replace(rule.decode, registry=registry)) for rule in self.inner)
        return replace(self, decode=replace(self.decode, registry=registry), inner=inner)


# ------------------------------------------------------------------ sensors
class Component(StrEnum):
    """One of the two numbers that a direction becomes: 359 and 1 degrees are near each other in both."""

    COS = "cos"
    SIN = "sin"


class Direction(StrEnum):
    """On which side of what is expected a sensor's values matter."""

    BOTH = "both"
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """What of one sensor may raise an alert; see ``model.rules`` for how the first four act."""

    direction: Direction = Direction.BOTH
    min_deviation: float = (
        0.0  # a smaller distance from what is expected does not matter; in the sensor's unit
    )
    min_share: float = 0.0  # the same as a share of the expected value
    ignore: bool = False  # context for the model, never evidence, never silent or stuck
    critical_ratio: float | None = (
        None  # shares of the threshold above which it is critical; None: the stream's
    )

    @property
    def excuses(self) -> bool:
        """Whether any value counts as expected because of it."""
        return self.facts() != {}

    def facts(self) -> dict[str, object]:
        """What acts on measurements, in the keys of the configuration; only what does anything."""
        made: dict[str, object] = {}
        made |= {"direction": self.direction.value} if self.direction is not Direction.BOTH else {}
        made |= {"min_deviation": self.min_deviation} if self.min_deviation else {}
        made |= {"min_deviation": f"{100.0 * self.min_share:.9g}%"} if self.min_share else {}
        return made | ({"ignore": True} if self.ignore else {})

    @staticmethod
    def of(facts: Mapping[str, object]) -> AlertRule:
        """The inverse of ``facts``; ValueError or TypeError where they are none."""
        least = facts.get("min_deviation", 0.0)
        share = float(least[:-1]) / 100.0 if isinstance(least, str) else 0.0
        return AlertRule(
            Direction(str(facts.get("direction") or Direction.BOTH)),
            0.0 if isinstance(least, str) else float(least),  # type: ignore[arg-type]  # else a TypeError
            share,
            facts.get("ignore", False) is True,
        )


@dataclass(frozen=True, slots=True)
class SensorRule:
    """What is done with the values of one sensor, whatever messages they come in.

    In this order: ``missing``, the conversion to ``unit``, ``scale`` and ``offset`` to each value, ``reduce`` to those of one row,
    ``counter`` or ``angle`` to the rows, ``hold`` to what is missing then.
    """

    source: str | None = None  # its name in the messages; None: its own
    scale: float = 1.0
    offset: float = 0.0  # added after scaling
    missing: frozenset[float] = frozenset()  # raw numbers that stand for no value
    states: Mapping[str, float] = field(default_factory=dict)  # texts that are numbers here
    reduce: Reduce = Reduce.FIRST
    hold_ns: int = 0  # the last value stands for a missing one for so long; 0: not at all
    counter: bool = False  # it only rises, but for resets: its rate counts
    angle: float | None = None  # it wraps at this value
    component: Component | None = None  # of an angle: this sensor of the stream is one of its two numbers ...
    component_of: str = ""  # ... and this is the sensor's name
    unit: str | None = None  # of its raw numbers; those that come in another one are converted, or masked
    alert: AlertRule = AlertRule()  # what of it may raise an alert


PLAIN = SensorRule()

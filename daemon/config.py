"""Settings: config.yaml, the environment over it, ``--set`` over both; read once, in cli.py.

Every key but ``streams`` has a default. An unknown key is an error that names the nearest
known one, at every level: a misspelt key that is silently ignored is an outage that starts
on the day somebody relies on it.
"""

from __future__ import annotations

import copy
import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from daemon.calendar import check_fields
from daemon.documents import MAX_DEPTH, SHOWN, DocumentError, from_json, from_yaml, one_line, read_file, shown
from daemon.domain import (
    AlarmPolicy,
    Budget,
    FieldNames,
    Format,
    ModelSettings,
    StreamSpec,
    is_calendar,
    to_ns,
    zone_of,
)
from daemon.errors import ConfigError

ENV_PREFIX = "ANOMALYD_"
NUMBER = r"[0-9]{1,30}(?:\.[0-9]{1,30})?"
UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
PER = {"hour": 24.0, "day": 1.0, "week": 1 / 7, "month": 1 / 30}
LONGEST = timedelta(days=3653)
"""Of a duration and of a window. Instants are 64-bit nanoseconds, which end 292 years from 1970."""
BUDGETS = (1e-6, 1e6)
"""Episodes per asset and day: one in 2,700 years, and a dozen a second."""
INSTANTS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC))
MAX_ROWS = 100_000_000
"""To learn from: more than any machine holds."""
MAX_OPEN_ROWS = 1_000_000
"""Rows of one asset that may still change: 8 bytes each are kept for every asset."""
MAX_SEED = 2**63 - 1
"""What every generator of random numbers takes."""


def parse_duration(value: Any) -> Any:
    """``500ms``, ``10s``, ``5m``, ``24h``, ``7d`` as a timedelta; a bare number is refused."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(rf"\s*({NUMBER})\s*([a-z]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in UNITS:
        raise ValueError(
            f"{shown(value)} is not a duration: write a number and a unit, as 500ms, 10s, 5m, 24h, 7d"
        )
    seconds = float(match[1]) * UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{shown(value)} is longer than ten years")
    duration = timedelta(seconds=seconds)
    if seconds and not duration:
        raise ValueError(f"{shown(value)} is shorter than a microsecond")
    return duration


def parse_budget(value: Any) -> Any:
    """``1 per day``, ``2 per week`` as episodes per asset and day."""
    if isinstance(value, Budget):
        return value
    match = (
        re.fullmatch(rf"\s*({NUMBER})\s*(?:per|/)\s*([a-z]+)\s*", value) if isinstance(value, str) else None
    )
    if match is None or match[2] not in PER:
        raise ValueError(f"{shown(value)} is not a budget: write for example '1 per day' or '2 per week'")
    per_day = float(match[1]) * PER[match[2]]
    if not BUDGETS[0] <= per_day <= BUDGETS[1]:
        raise ValueError(
            f"{shown(value)} is no budget to calibrate to: from one in 1,000,000 days to 1,000,000 a day"
        )
    return Budget(per_day)


def parse_persistence(value: Any) -> Any:
    """``2 of 3`` as (2, 3)."""
    match = re.fullmatch(r"\s*([0-9]{1,3})\s*of\s*([0-9]{1,3})\s*", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 64:
        raise ValueError(
            f"{shown(value)} is not a persistence: write 'n of m' with 1 <= n <= m <= 64, as '2 of 3'"
        )
    return (int(match[1]), int(match[2]))


def parse_share(value: Any) -> Any:
    """``1%`` as 0.01; 0 and null as 0, for none. A bare number is refused: is 1 all of it, or a hundredth?"""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0):
        return 0.0
    match = re.fullmatch(rf"\s*({NUMBER})\s*%\s*", value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str) and re.fullmatch(r"\s*(0|null|none)\s*", value, re.IGNORECASE):
            return 0.0
        raise ValueError(f"{shown(value)} is not a share: write for example 1%, or 0 for none")
    share = float(match[1]) / 100.0
    if not 0.0 <= share <= 0.5:
        raise ValueError(f"{shown(value)} is more than half a CPU: at most 50%")
    return share


def positive(value: timedelta) -> timedelta:
    """Zero and less are not durations of anything."""
    if value <= timedelta(0):
        raise ValueError("a duration here must be longer than zero")
    return value


def named(value: str) -> str:
    """Something must be written there."""
    if not value.strip():
        raise ValueError(f"{shown(value)} is empty: it must be left out or name something")
    return value


def host_name(value: str) -> str:
    """A name as a browser would have it in ``Host``, without scheme and port; ``*.`` may stand in front."""
    if re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", value) is None or len(value) > 255:
        raise ValueError(
            f"{value!r} is no host name: write it without scheme and port, as anomalyd.example.org or "
            "*.example.org"
        )
    return value


def distinct(what: str, values: Sequence[str]) -> None:
    """Refuse an empty name and a repeated one."""
    for i, value in enumerate(values):
        if not value.strip():
            raise ValueError(f"{what} {shown(value)} is empty")
        if value in values[:i]:
            raise ValueError(f"{what} {shown(value)} appears twice")


def legal_topic(value: str) -> str:
    """A name that Kafka takes for a topic."""
    if not is_topic_name(value):
        raise ValueError(
            f"{shown(value)} is no topic name: 1 to 249 of the characters A-Z a-z 0-9 . _ - (and neither . nor ..)"
        )
    return value


def legal_instance_id(value: str) -> str:
    """A name that Kafka takes for a static member, or ``$hostname``."""
    if value != "$hostname" and not is_topic_name(value):
        raise ValueError(
            f"{shown(value)} is no instance id: $hostname, or 1 to 249 of the characters A-Z a-z 0-9 . _ -"
        )
    return value


def is_topic_name(value: str) -> bool:
    """Whether Kafka would take it."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) is not None and value not in (".", "..")


def folder(value: Any) -> Any:
    """Path("") would be the working directory, which nobody who writes nothing means."""
    return named(value) if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(named)]
HostName = Annotated[str, AfterValidator(host_name)]
TopicName = Annotated[str, AfterValidator(legal_topic)]
InstanceId = Annotated[str, AfterValidator(legal_instance_id)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(lambda v: positive(parse_duration(v)))]


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class KafkaSection(Section):
    """How to reach Kafka."""

    bootstrap_servers: Name = "localhost:9092"
    group_id: Name = "anomalyd"
    instance_id: InstanceId | None = None
    start: Literal["earliest", "latest"] = "earliest"
    delivery: Literal["at_least_once", "exactly_once"] = "exactly_once"
    commit_interval: PositiveDuration = timedelta(milliseconds=500)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    allow_plaintext: bool = False
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    username: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism is None:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism")
        return self


class FieldsSection(Section):
    """Where a record keeps what; ``$key`` and ``$timestamp`` take it from the Kafka record."""

    asset: Name = "asset"
    timestamp: Name = "ts"
    values: Name = "values"
    sensor: Name = "sensor"
    value: Name = "value"
    condition: Name = "condition"


class SensorSection(Section):
    """One sensor: ``range`` is its engineering range, for the scaling floor and the page's axes."""

    range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range is None:
            return self
        low, high = self.range
        if not math.isfinite(high - low) or low >= high:
            raise ValueError(f"range {list(self.range)} must be [low, high], both finite, with low < high")
        return self


def bare_sensors(value: Any) -> Any:
    """A list of names, or names without settings, are fine too."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        distinct("sensor", [name for name in value if isinstance(name, str)])
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: ({} if settings is None else settings) for name, settings in value.items()}
    return value


class StreamSection(Section):
    """Assets of one kind: the same sensors, period and model."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    topics: tuple[TopicName, ...] = Field(min_length=1)
    format: Format = Format.JSON_WIDE
    fields: FieldsSection = FieldsSection()
    sensors: Annotated[dict[str, SensorSection], BeforeValidator(bare_sensors)] = Field(min_length=1)
    period: PositiveDuration = timedelta(seconds=1)
    window: int = Field(default=16, ge=2, le=1024)
    hop: int = Field(default=1, ge=1)
    allowed_lateness: Duration | None = None
    max_gap: PositiveDuration | None = None
    silent_after: PositiveDuration | None = None
    condition: tuple[str, ...] = ()
    assets: dict[str, dict[str, str]] = {}
    timezone: str | None = None
    forget: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hop > self.window:
            raise ValueError(
                f"hop {self.hop} is longer than the window {self.window}: rows between would never be scored"
            )
        for key, value in (("max_gap", self.max_gap), ("silent_after", self.silent_after)):
            if value is not None and value < self.period:
                raise ValueError(f"{key} {value} is shorter than the period {self.period}")
        if self.lasts > LONGEST:
            raise ValueError(f"{self.window} rows of {self.period} make a window longer than ten years")
        if self.lateness > MAX_OPEN_ROWS * self.period:
            raise ValueError(
                f"allowed_lateness {self.lateness} is more than {MAX_OPEN_ROWS:,} rows of {self.period}, which"
                " are kept for each asset"
            )
        distinct("sensor", list(self.sensors))
        distinct("condition", self.condition)
        distinct("forget", self.forget)
        try:
            zone_of(self.timezone)
        except ValueError as error:
            raise ValueError(f"timezone {error}") from error
        check_fields(self.condition)
        told = not all(map(is_calendar, self.condition))
        FieldNames(**self.fields.model_dump()).used(self.format, told)
        return self

    @property
    def lateness(self) -> timedelta:
        """``allowed_lateness``, or its default, which is never more than may be written."""
        if self.allowed_lateness is None:
            return min(max(timedelta(seconds=10), self.period), MAX_OPEN_ROWS * self.period)
        return self.allowed_lateness

    @property
    def lasts(self) -> timedelta:
        """One window."""
        return self.window * self.period

    def spec(self) -> StreamSpec:
        """The immutable value that the core works with."""
        period = self.period
        long = max(timedelta(minutes=5), 20 * period)
        return StreamSpec(
            name=self.name,
            sensors=tuple(self.sensors),
            period_ns=to_ns(period),
            window=self.window,
            hop=self.hop,
            allowed_lateness_ns=to_ns(self.lateness),
            max_gap_ns=to_ns(self.max_gap or long),
            silent_after_ns=to_ns(self.silent_after or long),
            format=self.format,
            fields=FieldNames(**self.fields.model_dump()),
            topics=self.topics,
            condition=self.condition,
            ranges=tuple(sensor.range for sensor in self.sensors.values()),
            assets=self.assets,
            timezone=self.timezone,
            forget=frozenset(self.forget),
        )


class ModelSection(Section):
    """The model: a VAE with a linear skip, beside it a path of one kind; ``ppca`` is the skip alone."""

    kind: Literal["mlp", "conv", "gru", "ppca"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (64, 32)
    latent: int = Field(default=8, ge=1, le=256)
    beta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    learn_rows: int = Field(default=5000, ge=100, le=MAX_ROWS)
    directory: Annotated[Path, BeforeValidator(folder)] = Path("models")
    keep: int = Field(default=10, ge=1, le=90)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    steps: int | None = Field(default=None, ge=1, le=10_000_000)

    def settings(self) -> ModelSettings:
        """The value that training works with."""
        return ModelSettings(self.kind, self.hidden, self.latent, self.beta, self.seed, self.steps)


class CalibrationSection(Section):
    """``budget``: false episodes per asset that the operator accepts."""

    budget: Annotated[Budget, BeforeValidator(parse_budget)] = Budget(1.0)


class MaintenanceSection(Section):
    """A planned stop: no anomaly opens from ``start`` to ``end`` for these assets (all if none is named)."""

    start: datetime
    end: datetime
    assets: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("maintenance times need a time zone, as 2026-01-31T08:00:00Z")
        for when in (self.start, self.end):
            if not INSTANTS[0] <= when < INSTANTS[1]:
                raise ValueError(f"maintenance time {when.isoformat()} is not from 1970 to 2261")
        if self.end <= self.start:
            raise ValueError("maintenance ends before it starts")
        return self


class AlertsSection(Section):
    """When scores become an episode."""

    persistence: Annotated[tuple[int, int], BeforeValidator(parse_persistence)] = (1, 1)
    hysteresis: float = Field(default=0.9, gt=0, le=1)
    refractory: Duration | None = None
    maintenance: tuple[MaintenanceSection, ...] = ()
    sinks: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _built(self) -> Self:
        if self.sinks:
            raise ValueError("not used yet: alerts go to the topic <prefix>.alerts; leave this empty")
        return self

    def policy(self, spec: StreamSpec) -> AlarmPolicy:
        """The machine's settings for one stream; the refractory time is one window unless given."""
        rows = spec.window if self.refractory is None else to_ns(self.refractory) // spec.period_ns
        return AlarmPolicy(*self.persistence, self.hysteresis, int(rows))


class DriftSection(Section):
    """``interval``: the event time over which drift is summed and judged, at least one window."""

    interval: PositiveDuration = timedelta(hours=1)


class RetrainSection(Section):
    """``every``: event time between trainings, null for never; ``rows``: recent rows to learn from."""

    every: PositiveDuration | None = timedelta(hours=24)
    rows: int = Field(default=50_000, ge=100, le=MAX_ROWS)


class DrillSection(Section):
    """``share``: of one CPU's time for fire drills beside the stream; 0 for none."""

    share: Annotated[float, BeforeValidator(parse_share)] = 0.01


class AuditSection(Section):
    """``one_in``: one in so many known readings is hidden from the model, to see how it is filled; 0 or null: none."""

    one_in: int | None = Field(default=1000, ge=0, le=MAX_ROWS)


class OutputsSection(Section):
    """``prefix`` of every output topic; ``scores``: publish a message per scored row."""

    prefix: str = Field(default="anomalyd", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    scores: bool = False


class HttpSection(Section):
    """The admin port: health, metrics and the page."""

    host: Name = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)
    allowed_hosts: list[HostName] = []


class LoggingSection(Section):
    """Logs go to standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class LimitsSection(Section):
    """What bounds memory."""

    max_record_bytes: int = Field(default=1_048_576, ge=1024, le=2**31 - 1)  # Kafka's own limit
    max_asset_bytes: int = Field(default=256, ge=8, le=65_536)
    max_assets: int = Field(default=100_000, ge=1, le=MAX_ROWS)


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=False,
    )

    kafka: KafkaSection = KafkaSection()
    streams: tuple[StreamSection, ...] = Field(min_length=1)
    model: ModelSection = ModelSection()
    calibration: CalibrationSection = CalibrationSection()
    alerts: AlertsSection = AlertsSection()
    drift: DriftSection = DriftSection()
    retrain: RetrainSection = RetrainSection()
    drill: DrillSection = DrillSection()
    audit: AuditSection = AuditSection()
    outputs: OutputsSection = OutputsSection()
    http: HttpSection = HttpSection()
    logging: LoggingSection = LoggingSection()
    limits: LimitsSection = LimitsSection()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [stream.name for stream in self.streams]
        topics = [topic for stream in self.streams for topic in stream.topics]
        for what, values in (("stream name", names), ("input topic", topics)):
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"{what} {sorted(twice)[0]!r} is used twice")
        for stream in self.streams:
            # A default that is too short for a slow stream is lengthened: see ``drift_interval``.
            if "interval" in self.drift.model_fields_set and self.drift.interval < stream.lasts:
                raise ValueError(
                    f"drift.interval {self.drift.interval} is shorter than one window of stream"
                    f" {stream.name!r}, which lasts {stream.lasts}"
                )
        return self

    def drift_interval(self, stream: StreamSection) -> timedelta:
        """The interval for one stream: an hour, unless told otherwise, but never less than a window."""
        return max(self.drift.interval, stream.lasts)


class Document(PydanticBaseSettingsSource):
    """The parsed config.yaml, below the environment."""

    def __init__(self, settings_cls: type[BaseSettings], document: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self.document = document

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self.document.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self.document)


class Environment(EnvSettingsSource):
    """The environment: JSON where it is JSON, and else the text as it stands (``10 per day``)."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """A value that is no JSON is left to the rules of its key, which have words for what is wrong."""
        try:
            return from_json(value)
        except DocumentError as error:
            raise ConfigError(f"environment, {field_name}: {error}") from error
        except ValueError:
            return value


def reading(document: Mapping[str, Any]) -> type[Settings]:
    """Settings that take what init and environment leave open from ``document``."""

    class WithDocument(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, Environment(settings_cls), Document(settings_cls, document)

    return WithDocument


def read_document(path: Path) -> dict[str, Any]:
    """Parse config.yaml.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    try:
        data = read_file(path)
    except DocumentError as error:
        absent = isinstance(error.__cause__, FileNotFoundError)
        hint = "; 'anomalyd init SAMPLE' writes one" if absent else ""
        raise ConfigError(f"{path}: {error}{hint}") from error
    try:
        document = from_yaml(data)
    except DocumentError as error:
        raise ConfigError(f"{path}: not usable YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not a {type(document).__name__}")
    return document


def load(path: Path | None, sets: Sequence[str] = (), document: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: config.yaml, or None when ``document`` stands in for it.
        sets: ``key.path=value`` overrides, values in YAML; they win over everything.
        document: what a file would hold (a derived configuration).

    Raises:
        ConfigError: one line that names the key, the value and the rule.
    """
    data = copy.deepcopy(dict(document or {})) if path is None else read_document(path)
    where = str(path) if path else "settings"
    overrides: dict[str, Any] = {}
    for text in sets:
        key, separator, value = text.partition("=")
        said = f"--set {shown(text)}"
        if not separator or not key:
            raise ConfigError(f"{said}: write KEY=VALUE, as retrain.every=10m")
        try:
            parsed = from_yaml(value)
        except DocumentError as error:
            raise ConfigError(f"{said}: the value is not usable YAML: {error}") from error
        parts = key.split(".")
        if parts[0] not in Settings.model_fields:  # pydantic-settings has arguments of its own, as _env_file
            raise ConfigError(f"{said}: unknown key {shown(parts[0])}{nearest(parts[:1])}")
        if len(parts) > MAX_DEPTH:
            raise ConfigError(f"{said}: a key of {len(parts)} parts")
        put(data if parts[0] == "streams" else overrides, parts, parsed, said)
    try:
        settings = reading(data)(**overrides)
    except ValidationError as error:
        raise ConfigError(one_line(f"{where}: {explain(error)}")) from error
    for key, found in texts(settings.model_dump()):
        if unusable(found):
            raise ConfigError(
                f"{where}: {one_line(key)}: {shown(str(found))} holds a character that no text can have"
            )
    return settings


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str | Path]]:
    """Every text and path in the settings, with its key; the keys of mappings are texts too."""
    if isinstance(value, (str, Path)):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield key, str(name)
            yield from texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from texts(inner, f"{key}.{i}")


def unusable(value: str | Path) -> bool:
    """Whether it has a NUL, or half of a surrogate pair; the latter is how Python shows a file's odd name."""
    text = str(value)
    return "\0" in text or (isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in text))


def put(target: Any, parts: Sequence[str], value: Any, said: str) -> None:
    """Set a nested key; ``streams.0.window`` and ``streams.pumps.window`` both name a stream."""
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(target, list):
            index = next(
                (
                    j
                    for j, x in enumerate(target)
                    if str(j) == part or (isinstance(x, dict) and x.get("name") == part)
                ),
                None,
            )
            if index is None:
                raise ConfigError(f"{said}: there is no stream {shown(part)}")
            if last:
                target[index] = value
            else:
                target = target[index]
        elif not isinstance(target, dict):
            raise ConfigError(f"{said}: {shown(parts[i - 1])} has no keys below it")
        elif last:
            target[part] = value
        else:
            target = target.setdefault(part, {})


def explain(error: ValidationError) -> str:
    """The first problem as one line."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(part if len(part) <= SHOWN else f"{part[:SHOWN]} ..." for part in path) or "configuration"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(path)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    said = isinstance(given, (dict, list, BaseModel)) or shown(given) in message
    return f"{key}: {message}" + ("" if said else f" (got {shown(given)})")


def known_keys(path: Sequence[str]) -> list[str]:
    """The keys that exist beside the last part of ``path``."""
    model: Any = Settings
    for part in path[:-1]:
        if part.isdigit():
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
        if model is SensorSection and path[-1] not in SensorSection.model_fields:
            return list(SensorSection.model_fields)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def nearest(path: Sequence[str]) -> str:
    """``; did you mean ...?`` for a misspelt key."""
    keys = known_keys(path)
    close = difflib.get_close_matches(path[-1], keys, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(keys)}" if keys else ""


def unknown_environment() -> list[str]:
    """ANOMALYD_ variables that name no key: pydantic-settings ignores those at the top level."""
    known = {name.upper() for name in Settings.model_fields}
    full = [
        f"{name.upper()}__{key.upper()}"
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for key in field.annotation.model_fields
    ]
    problems = []
    for name in sorted(os.environ):
        if not name.startswith(ENV_PREFIX):
            continue
        head = name.removeprefix(ENV_PREFIX).split("__")[0]
        if head not in known and head not in {"REQUIRE_KAFKA", "REQUIRE_BROWSER", "REQUIRE_ALL"}:
            rest = name.removeprefix(ENV_PREFIX)
            close = difflib.get_close_matches(rest, [*full, *sorted(known)], n=1, cutoff=0.5)
            hint = f"; did you mean {ENV_PREFIX}{close[0]}?" if close else ""
            problems.append(f"environment variable {name} names no key{hint}")
    return problems


def maintained(windows: Sequence[MaintenanceSection]) -> tuple[tuple[int, int, frozenset[str]], ...]:
    """Maintenance as (start_ns, end_ns, assets) for the core."""
    return tuple(
        (
            to_ns(w.start.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)),
            to_ns(w.end.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)),
            frozenset(w.assets),
        )
        for w in windows
    )

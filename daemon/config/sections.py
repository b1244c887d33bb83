"""The sections of the configuration, each declared once with its defaults and rules.

Every key but ``streams`` has a default. An unknown key is an error at every level: a misspelt key that is
silently ignored is an outage that starts on the day somebody relies on it. Sections also make the immutable
values that the core works with (``StreamSection.spec``, ``ModelSection.settings``, ``AlertsSection.policy``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from daemon.budget import Budget
from daemon.calendar import check_fields
from daemon.config.agreement import check_conditions, check_names, check_units, names_in_messages
from daemon.config.http import HttpSection
from daemon.config.learning import AuditSection, DriftSection, DrillSection, PromotionSection, RetrainSection
from daemon.config.notation import (
    LONGEST,
    Duration,
    InstanceId,
    Name,
    PositiveDuration,
    TopicName,
    check_registry_url,
    distinct,
    folder,
    is_loopback,
    one_or_more,
    parse_budget,
    parse_min_deviation,
    parse_persistence,
)
from daemon.config.presets import CUSTOM, mapping_of
from daemon.config.schema_files import with_schema_files
from daemon.config.section import MAX_ROWS, Section
from daemon.control import INSTANTS
from daemon.detector import REACH
from daemon.documents import shown
from daemon.domain import (
    AlarmPolicy,
    FieldNames,
    Format,
    ModelSettings,
    StreamSpec,
    is_calendar,
    iso,
    to_ns,
    zone_of,
)
from daemon.maintenance import MaintenanceWindow, ns_of
from daemon.mapping import (
    PLAIN,
    AlertRule,
    Component,
    Direction,
    InputMapping,
    Reduce,
    RegistryAddress,
    SensorRule,
)

MAX_OPEN_ROWS = 1_000_000
"""The most rows of one asset that may still change: 8 bytes each are kept for every asset."""
MAX_SEED = 2**63 - 1
"""The largest seed that every generator of random numbers accepts."""
ENV_PREFIX = "ANOMALYD_"


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


class SchemaRegistrySection(Section):
    """Where the schemas of Avro and Protobuf messages are: a registry with the API of Confluent's."""

    url: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = ()
    username: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout: PositiveDuration = timedelta(seconds=10)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for url in self.url:
            check_registry_url(url)
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file come together or not at all")
        if self.username is not None and self.token_file is not None:
            raise ValueError("username and token_file exclude each other")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        secret = self.username is not None or self.token_file is not None
        if secret and any(
            url.startswith("http://") and not is_loopback(urlsplit(url).hostname or "") for url in self.url
        ):
            raise ValueError("a password or token over http:// is sent in the clear: use https://")
        return self

    def address(self) -> RegistryAddress | None:
        """The value that the adapters work with; None where no registry is configured."""
        if not self.url:
            return None
        files = ("password_file", "token_file", "ca_file", "cert_file", "key_file")
        named = {key: str(path) for key in files if (path := getattr(self, key)) is not None}
        return RegistryAddress(self.url, self.username, timeout_s=self.timeout.total_seconds(), **named)


class FieldsSection(Section):
    """The names of a record's fields; ``$key`` and ``$timestamp`` stand for those of the Kafka record."""

    asset: Name = "asset"
    timestamp: Name = "ts"
    values: Name = "values"
    sensor: Name = "sensor"
    value: Name = "value"
    condition: Name = "condition"


class SensorSection(Section):
    """One sensor.

    ``range`` is its engineering range, for the scaling floor and the page's axes. ``source`` is its name in the
    messages where that is another one. A raw number in ``missing`` is none; then the value is ``scale`` times
    the raw one, plus ``offset``. ``states`` are the numbers that its texts stand for. Of several values within
    one period ``reduce`` makes one. A ``counter`` only rises, but for resets: its rate per second is what counts,
    and its range. An ``angle`` wraps at this value: the model is given its cosine and sine, as two sensors. For as
    long as ``hold`` the last value stands for a missing one. ``unit`` is that of its raw numbers: where messages say
    another one (``input.unit``), their numbers are converted, or masked where the two have nothing in common. Without
    ``input.unit`` it would do nothing, and is refused.

    What of it may raise an alert: values above or below what is expected (``direction``), that differ from it by at
    least ``min_deviation`` (in its unit, of a counter per second, or per cent of the expected value); ``ignore``: none,
    it is only context; ``critical_ratio`` instead of ``alerts.critical_ratio`` where it is blamed most.
    """

    range: tuple[float, float] | None = None
    source: str | None = None
    unit: str | None = None
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    missing: tuple[float, ...] = ()
    states: dict[str, float] = Field(default_factory=dict)
    reduce: Reduce = Reduce.FIRST
    hold: Duration | None = None
    counter: bool = False
    angle: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    direction: Direction = Direction.BOTH
    min_deviation: Annotated[float | str, BeforeValidator(parse_min_deviation)] = 0.0
    ignore: bool = False
    critical_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None

    def channels(self, name: str) -> list[tuple[str, SensorRule, tuple[float, float] | None]]:
        """What the sensor of this name is in the stream: itself, or the components of an angle; rule and range."""
        rule = self.rule()
        if self.angle is None:
            return [(name, rule, self.range)]
        rule = replace(rule, source=self.source or name, component_of=name)
        return [(f"{name}.{part}", replace(rule, component=part), (-1.0, 1.0)) for part in Component]

    def rule(self) -> SensorRule:
        """The value that the core works with."""
        return SensorRule(
            self.source,
            self.scale,
            self.offset,
            frozenset(self.missing),
            {**self.states, **{text.lower(): number for text, number in self.states.items()}},
            self.reduce,
            0 if self.hold is None else to_ns(self.hold),
            self.counter,
            self.angle,
            unit=self.unit,
            alert=self.alert_rule(),
        )

    def alert_rule(self) -> AlertRule:
        """What of it may raise an alert."""
        stated = {name: getattr(self, name) for name in ("direction", "min_deviation", "ignore")}
        return replace(AlertRule.of(stated), critical_ratio=self.critical_ratio)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.scale == 0.0:
            raise ValueError(
                f"scale 0 makes every value {self.offset:g}: leave it out where numbers are right as they are"
            )
        if self.angle is not None and self.counter:
            raise ValueError("counter and angle: a value that wraps is no counter; write one of the two")
        if self.angle is not None and (self.direction is not Direction.BOTH or self.min_deviation != 0.0):
            raise ValueError(
                "an angle has no direction and no min_deviation: the model is given two numbers of it"
            )
        if self.angle is not None and self.reduce not in (Reduce.FIRST, Reduce.LAST):
            raise ValueError(f"reduce: {self.reduce} of an angle says nothing, as it wraps; write last")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range is None:
            return self
        low, high = self.range
        if not math.isfinite(high - low) or low >= high:
            raise ValueError(f"range {list(self.range)} must be [low, high], both finite, with low < high")
        return self


def bare_sensors(value: Any) -> Any:
    """Accept a list of names, and names without settings, as a mapping of names to settings."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        for name in value:
            if isinstance(name, Mapping | list):
                raise ValueError(f"a list holds the sensors' names, not {shown(name)}")
        distinct("sensor", [name for name in value if isinstance(name, str)])
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: ({} if settings is None else settings) for name, settings in value.items()}
    return value


class StreamSection(Section):
    """Assets of one kind: the same sensors, period and model."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    topics: tuple[TopicName, ...] = Field(min_length=1)
    format: str = Format.JSON_WIDE.value
    input: dict[str, Any] | None = None
    fields: FieldsSection = FieldsSection()
    sensors: Annotated[dict[str, SensorSection], BeforeValidator(bare_sensors)] = Field(min_length=1)
    period: PositiveDuration = timedelta(seconds=1)
    window: int = Field(default=16, ge=2, le=1024)
    hop: int = Field(default=1, ge=1)
    allowed_lateness: Duration | None = None
    max_gap: PositiveDuration | None = None
    silent_after: PositiveDuration | None = None
    condition: tuple[str, ...] = ()
    assets: dict[str, dict[str, str]] = Field(default_factory=dict)
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
        for name, sensor in self.sensors.items():
            if sensor.hold is not None and sensor.hold < self.period:
                raise ValueError(
                    f"sensors.{name}.hold {sensor.hold} is shorter than the period {self.period}"
                )
        distinct("sensor", [name for name, _, _ in self.channels])
        if all(sensor.ignore for sensor in self.sensors.values()):
            raise ValueError("every sensor has ignore: nothing would be watched")
        named = names_in_messages({name: sensor.source for name, sensor in self.sensors.items()})
        distinct("condition", self.condition)
        distinct("forget", self.forget)
        try:
            zone_of(self.timezone)
        except ValueError as error:
            raise ValueError(f"timezone {error}") from error
        check_fields(self.condition)
        in_messages = not all(map(is_calendar, self.condition))
        if self.mapping is None:
            FieldNames(**self.fields.model_dump()).used(Format(self.format), in_messages)
        elif self.fields != FieldsSection():
            raise ValueError("fields belongs to json-wide and json-long: write input instead")
        else:
            check_names(self.mapping, self.input or {}, named)
            check_conditions(self.mapping, self.input or {}, self.condition, self.assets.values())
        check_units(self.mapping, self.format, {name: sensor.unit for name, sensor in self.sensors.items()})
        return self

    @cached_property
    def mapping(self) -> InputMapping | None:
        """How the messages are read; None: as json-wide or json-long."""
        typed = self.format in (Format.JSON_WIDE, Format.JSON_LONG)
        if self.input is None and typed:
            return None
        name = CUSTOM if typed and "format" not in self.model_fields_set else self.format
        try:
            return with_schema_files(mapping_of(name, self.input or {}))
        except ValueError as error:
            where = "format" if self.input is None else "input"
            raise ValueError(f"{where}: {error}") from error

    @property
    def lateness(self) -> timedelta:
        """``allowed_lateness``, or its default, which is never more than may be written."""
        if self.allowed_lateness is None:
            return min(max(timedelta(seconds=10), self.period), MAX_OPEN_ROWS * self.period)
        return self.allowed_lateness

    @property
    def lasts(self) -> timedelta:
        """The length of one window."""
        return self.window * self.period

    @property
    def channels(self) -> list[tuple[str, SensorRule, tuple[float, float] | None]]:
        """The sensors of the stream, rule and range of each; see ``SensorSection.channels``."""
        return [found for name, sensor in self.sensors.items() for found in sensor.channels(name)]

    def spec(self, registry: RegistryAddress | None = None) -> StreamSpec:
        """The immutable value that the core works with.

        Args:
            registry: of the schemas that messages name (``Settings.schema_registry``).
        """
        mapping = self.mapping
        if mapping is not None and registry is not None:
            mapping = mapping.asking(registry)
        period, channels = self.period, self.channels
        long = max(timedelta(minutes=5), 20 * period)
        rules = tuple(rule for _, rule, _ in channels)
        return StreamSpec(
            name=self.name,
            sensors=tuple(name for name, _, _ in channels),
            period_ns=to_ns(period),
            window=self.window,
            hop=self.hop,
            allowed_lateness_ns=to_ns(self.lateness),
            max_gap_ns=to_ns(self.max_gap or long),
            silent_after_ns=to_ns(self.silent_after or long),
            format=Format.MAPPED if mapping is not None else Format(self.format),
            fields=FieldNames(**self.fields.model_dump()),
            topics=self.topics,
            condition=self.condition,
            ranges=tuple(within for _, _, within in channels),
            assets=self.assets,
            timezone=self.timezone,
            forget=frozenset(self.forget),
            input=mapping,
            sensor_rules=rules if any(rule != PLAIN for rule in rules) else (),
        )


class ModelSection(Section):
    """The model: a VAE with a linear skip connection and a path of one kind beside it; ``ppca`` is the skip alone."""

    kind: Literal["mlp", "conv", "gru", "ppca"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (64, 32)
    latent: int = Field(default=8, ge=1, le=256)
    beta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    learn_rows: int = Field(default=5000, ge=100, le=MAX_ROWS)
    directory: Annotated[Path, BeforeValidator(folder)] = Path("models")
    keep: int = Field(default=10, ge=1, le=90)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    asset_levels: bool = False

    def settings(self) -> ModelSettings:
        """The value that training works with."""
        return ModelSettings(
            self.kind, self.hidden, self.latent, self.beta, self.seed, self.steps, self.asset_levels
        )


class CalibrationSection(Section):
    """``budget``: false episodes that the operator accepts, per asset or of a whole stream.

    ``online``: whether an asset's threshold is corrected while it runs, towards as many anomalies as that.
    """

    budget: Annotated[Budget, BeforeValidator(parse_budget)] = Budget()
    online: bool = False


class MaintenanceSection(Section):
    """A planned stop: nothing opens from ``start`` to before ``end`` on these assets (all if none is named).

    With ``rrule`` (RFC 5545, as ``FREQ=WEEKLY;BYDAY=SU``) it recurs, in the wall clock of ``timezone`` (UTC if none is
    given). Its rows are not learned, unless ``learn`` says so. Alerts that it suppresses are published with its ``name``.
    """

    name: str = Field(default="", max_length=200)
    start: datetime
    end: datetime
    assets: tuple[str, ...] = ()
    rrule: str = ""
    timezone: str = ""
    learn: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("maintenance times need a time zone, as 2026-01-31T08:00:00Z")
        for when in (self.start, self.end):
            if not INSTANTS[0] <= when < INSTANTS[1]:
                raise ValueError(f"maintenance time {when.isoformat()} is not from 1970 to 2261")
        if self.end <= self.start:
            raise ValueError("maintenance ends before it starts")
        self.window()
        return self

    def window(self) -> MaintenanceWindow:
        """The window that the core works with."""
        start_ns = ns_of(self.start)
        return MaintenanceWindow(
            self.name or iso(start_ns),
            start_ns,
            ns_of(self.end),
            frozenset(self.assets),
            self.rrule,
            self.timezone,
            self.learn,
        )


class AlertsSection(Section):
    """When scores become an episode."""

    persistence: Annotated[tuple[int, int], BeforeValidator(parse_persistence)] = (1, 1)
    hysteresis: float = Field(default=0.8, gt=0, le=1)
    refractory: Duration | None = None
    critical_ratio: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    deviation_budget: Annotated[Budget, BeforeValidator(parse_budget)] | None = Budget()
    accept_after: PositiveDuration | None = None
    recurs_within: PositiveDuration | None = timedelta(days=4)
    maintenance: tuple[MaintenanceSection, ...] = ()
    sinks: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _built(self) -> Self:
        if self.sinks:
            raise ValueError("not used yet: alerts go to the topic <prefix>.alerts; leave this empty")
        return self

    def policy(self, spec: StreamSpec, learn_after: timedelta | None = None) -> AlarmPolicy:
        """The alarm settings of one stream, and after how long a regime may be learned; unless given, the refractory time is as long as sustained evidence reaches back."""
        rows = REACH * spec.window if self.refractory is None else to_ns(self.refractory) // spec.period_ns
        accept_rows, learn_rows, recurs_rows = (
            0 if after is None else max(to_ns(after) // spec.period_ns, 1)
            for after in (self.accept_after, learn_after, self.recurs_within)
        )
        return AlarmPolicy(
            *self.persistence,
            self.hysteresis,
            int(rows),
            self.critical_ratio,
            accept_rows,
            learn_rows,
            spec.hop,
            recurs_rows,
        )


class OutputsSection(Section):
    """``prefix`` of every output topic; ``scores``: publish a message per scored row."""

    prefix: str = Field(default="anomalyd", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    scores: bool = False


class LoggingSection(Section):
    """Logs go to standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class LimitsSection(Section):
    """Limits that bound memory."""

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
    schema_registry: SchemaRegistrySection = SchemaRegistrySection()
    streams: tuple[StreamSection, ...] = Field(min_length=1)
    model: ModelSection = ModelSection()
    calibration: CalibrationSection = CalibrationSection()
    alerts: AlertsSection = AlertsSection()
    drift: DriftSection = DriftSection()
    retrain: RetrainSection = RetrainSection()
    promotion: PromotionSection = PromotionSection()
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
            # Only a configured interval is refused; the default is lengthened (``drift_interval``).
            if "interval" in self.drift.model_fields_set and self.drift.interval < stream.lasts:
                raise ValueError(
                    f"drift.interval {self.drift.interval} is shorter than one window of stream"
                    f" {stream.name!r}, which lasts {stream.lasts}"
                )
        return self

    def drift_interval(self, stream: StreamSection) -> timedelta:
        """The interval of one stream: as configured (default: an hour), but never less than a window."""
        return max(self.drift.interval, stream.lasts)

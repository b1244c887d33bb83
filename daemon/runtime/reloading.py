"""Reloading the configuration while the daemon runs: at SIGHUP, or when the file has changed.

The new configuration is read and checked as a whole before anything of it is used; one that has a fault changes nothing,
and the log says the fault. What can change is used in each partition at the next offset that can be committed, with all
state kept. What a training reads counts from the next training on. The rest needs a restart, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from daemon.adapters.telemetry import Reporter, configure_logging
from daemon.config import Settings
from daemon.errors import DaemonError
from daemon.runtime.stream_run import StreamPlan, StreamRun

LOOK_EVERY_S = 1.0
"""How often the file is looked at."""
AT_ONCE = (
    "alerts.persistence",
    "alerts.refractory",
    "alerts.critical_ratio",
    "alerts.accept_after",
    "alerts.recurs_within",
    "alerts.deviation_budget",
    "calibration.budget",
    "alerts.maintenance",
    "retrain.every",
    "retrain.accept_regimes_after",
    "logging.level",
)
"""Keys that count from the next committable offset on."""
NEXT_TRAINING = (
    "alerts.hysteresis",
    "model.kind",
    "model.hidden",
    "model.latent",
    "model.beta",
    "model.seed",
    "model.steps",
    "model.asset_levels",
    "promotion.shadow",
)
"""Keys that the next training reads."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The keys that differ between two configurations, by when they count."""

    at_once: tuple[str, ...] = ()
    next_training: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    @staticmethod
    def between(old: Settings, new: Settings) -> Changed:
        """The differences of two configurations."""
        before, after = _values(old), _values(new)
        keys = sorted(key for key in before | after if before.get(key) != after.get(key))
        return Changed(
            tuple(key for key in keys if key in AT_ONCE),
            tuple(key for key in keys if key in NEXT_TRAINING),
            tuple(key for key in keys if key not in AT_ONCE and key not in NEXT_TRAINING),
        )

    def __bool__(self) -> bool:
        return bool(self.at_once or self.next_training or self.restart)


def _values(section: BaseModel, path: str = "") -> dict[str, Any]:
    """The values of a configuration by their dotted keys; a list is one value."""
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{path}{name}"
        found |= _values(value, f"{key}.") if isinstance(value, BaseModel) else {key: value}
    return found


def merged(old: Settings, new: Settings, changed: Changed) -> Settings:
    """The old configuration with what of the new one can be used without a restart."""
    updates: dict[str, dict[str, Any]] = {}
    for key in (*changed.at_once, *changed.next_training):
        section, _, name = key.partition(".")
        updates.setdefault(section, {})[name] = getattr(getattr(new, section), name)
    return old.model_copy(
        update={name: getattr(old, name).model_copy(update=found) for name, found in updates.items()}
    )


class Reloading:
    """Follows the configuration of a running daemon.

    Args:
        settings: in force.
        path: of the file; None: it is read at SIGHUP alone.
        read: reads and checks the configuration anew.
        streams: whom it concerns.
        reporter: receives what happens.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        path: Path | None,
        read: Callable[[], Settings],
        streams: Sequence[StreamRun],
        reporter: Reporter,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._path = path
        self._read = read
        self._streams = streams
        self._reporter = reporter
        self._clock = clock
        self._looked_at = clock()
        self._used = self._seen = self._stamp()
        self._requested = False

    def request(self) -> None:
        """Read it anew at the next look, changed or not (SIGHUP)."""
        self._requested = True

    def look(self) -> None:
        """Reload the configuration if that was requested, or if the file has changed and is at rest."""
        now = self._clock()
        if not self._requested and now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        stamp = self._stamp()
        at_rest, self._seen = stamp == self._seen, stamp
        if self._requested or (stamp != self._used and at_rest and stamp is not None):
            self._requested, self._used = False, stamp
            self._reload()

    def _stamp(self) -> tuple[int, int, int] | None:
        """What tells one content of the file from another; None where there is no file."""
        try:
            found = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)

    def _reload(self) -> None:
        try:
            new = self._read()
            changed = Changed.between(self.settings, new)
            usable = merged(self.settings, new, changed)
            plans = [
                StreamPlan.of(usable, section)
                for section in usable.streams
                for stream in self._streams
                if stream.spec.name == section.name
            ]
        except Exception as error:  # noqa: BLE001 - the configuration in force is known to work
            known = isinstance(error, DaemonError)
            self._reporter.controls.config_refused(
                str(error) if known else f"{type(error).__name__}: {error}"
            )
            return
        for plan, stream in zip(plans, self._streams, strict=True):
            before = stream.detector
            stream.reconfigure(plan)
            if stream.detector is not None and stream.detector is not before:
                self._reporter.controls.thresholds_found(stream.spec.name, stream.detector)
        if "logging.level" in changed.at_once:
            configure_logging(usable.logging.level, usable.logging.format)
        self.settings = usable
        self._reporter.controls.config_reloaded(changed.at_once, changed.next_training, changed.restart)

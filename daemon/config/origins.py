"""Where each configured value comes from: the file, a variable of the environment, or an option ``--set``.

An error must name what its reader has to change. A rule on one key is broken by the one source that gave it; a rule on a
section (two keys that do not go together) may be broken by the file and what was set over it, so that all are named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daemon.config.sections import ENV_PREFIX, Settings
from daemon.documents import SHOWN, DocumentError, from_json
from daemon.errors import ConfigError

NAMED = 3
"""Sources of a section that an error names."""


@dataclass(frozen=True, slots=True)
class _Given:
    """One value over the file's."""

    source: str  # as an error begins
    keys: tuple[str, ...]
    value: Any

    def has(self, path: Sequence[str]) -> bool:
        """Whether the value at a path of keys is of this source."""
        if tuple(path[: len(self.keys)]) != self.keys:
            return False
        inner = self.value
        for key in path[len(self.keys) :]:
            if not isinstance(inner, Mapping):
                return True  # of a list, or of a value that should have been a mapping
            if key not in inner:
                return False
            inner = inner[key]
        return True


@dataclass(slots=True)
class Origins:
    """The sources of one configuration; later ones come before earlier ones."""

    file: str  # what an error in the file begins with
    given: list[_Given] = field(default_factory=list)

    def take_environment(self) -> None:
        """Note the variables that name a key.

        Raises:
            ConfigError: JSON that is too deep, or a key of one stream: the environment can only give all streams.
        """
        for name in environment_names():
            keys = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
            source = f"environment variable {name if len(name) <= SHOWN else name[:SHOWN] + ' ...'}"
            if keys[0] == "streams" and len(keys) > 1:
                raise ConfigError(
                    f"{source}: streams is a list, which the environment can only give as a whole, as JSON"
                    f" in {ENV_PREFIX}STREAMS; --set streams.NAME.KEY=... sets one key"
                )
            try:
                value: Any = from_json(os.environ[name])
            except DocumentError as error:
                raise ConfigError(f"{source}: {error}") from error
            except ValueError:
                value = os.environ[name]
            self.given.append(_Given(source, keys, value))

    def take(self, option: str, keys: Sequence[str], value: Any) -> None:
        """Note an option ``--set``."""
        self.given.append(_Given(option, tuple(keys), value))

    def of(self, path: Sequence[str]) -> str:
        """What gave the value at a path of keys, as an error begins."""
        for one in reversed(self.given):
            if one.has(path):
                return one.source
        below = [one.source for one in self.given if one.keys[: len(path)] == tuple(path)][-NAMED:]
        return self.file + (f", with {' and '.join(below)}" if below else "")


def environment_names() -> list[str]:
    """The variables of the environment that name a key of the configuration, or a section."""
    known = set(Settings.model_fields)
    return sorted(
        name
        for name in os.environ
        if name.upper().startswith(ENV_PREFIX) and name[len(ENV_PREFIX) :].lower().split("__")[0] in known
    )

"""The texts of ``explain``'s options ``--set``, ``--name`` and ``--at``, read as values.

Each function takes the text of one option and raises ``UsageError`` with the option's name where it is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.adapters.names import LONGEST
from daemon.errors import UsageError
from daemon.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class GivenName:
    """A name for a dimension, or for a regime; an empty one removes the name that is kept."""

    number: int  # of dimensions from 0 on, of regimes from 1 on
    name: str
    cluster: bool = False


def change_of(text: str, bundle: Bundle, called: Mapping[str, str]) -> tuple[int, float]:
    """``3=+2`` or ``valve opening=+2``: a dimension and by how many sd it moves.

    Raises:
        UsageError: no such dimension, or no such number.
    """
    what, found, amount = text.rpartition("=")
    try:
        sd = float(amount)
    except ValueError:
        sd = math.nan
    if not found or not math.isfinite(sd) or abs(sd) > 10:
        raise UsageError(f"--set {text}: a what-if is DIMENSION=SD, as 3=+2, with at most 10 sd")
    return _dimension(what, bundle, called, f"--set {text}"), sd


def _dimension(what: str, bundle: Bundle, called: Mapping[str, str], option: str) -> int:
    """A dimension by its name or its number.

    Raises:
        UsageError: the model has no such dimension.
    """
    latents = bundle.models.latents
    for number, name in called.items():
        if name and name == what.strip():
            return int(number)
    if what.strip().isascii() and what.strip().isdigit() and int(what) < latents:
        return int(what)
    has = f"the dimensions 0 to {latents - 1}" if latents else "no dimensions: nothing ever moved in training"
    names = [f"{number} is {name!r}" for number, name in sorted(called.items()) if name]
    if names:
        has += f" ({', '.join(names)})"
    raise UsageError(f"{option}: model {bundle.version} has {has}")


def naming_of(text: str, bundle: Bundle) -> GivenName:
    """``3=valve opening`` or ``cluster:1=night``.

    Raises:
        UsageError: it is neither.
    """
    what, found, name = text.partition("=")
    name = " ".join(name.split())
    if not found or len(name) > LONGEST:
        raise UsageError(
            f"--name {text}: write DIMENSION=NAME or cluster:NUMBER=NAME, up to {LONGEST} characters"
        )
    kind, cluster, number = what.partition(":")
    if not cluster:
        return GivenName(_dimension(what, bundle, {}, f"--name {text}"), name)
    if kind != "cluster" or not number.isascii() or not number.isdigit():
        raise UsageError(f"--name {text}: write DIMENSION=NAME or cluster:NUMBER=NAME")
    return GivenName(int(number), name, cluster=True)


def row_of(time: str, period_ns: int) -> int:
    """The grid row of an ISO time; no zone means UTC.

    Raises:
        UsageError: it is none.
    """
    try:
        when = datetime.fromisoformat(time)
    except ValueError as error:
        raise UsageError(f"--at {time}: no ISO 8601 time, as 2026-03-01T06:00:00Z") from error
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    since = when.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return microseconds * 1_000 // period_ns

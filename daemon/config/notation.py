"""How single values are written in the configuration: durations, budgets, shares, names.

Each function takes what YAML, the environment or ``--set`` gave and returns the value, or raises a ``ValueError``
that quotes the value and states the rule. The annotated types at the end are what the sections declare.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from daemon.budget import Budget
from daemon.documents import shown

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
"""The longest duration and window. Instants are 64-bit nanoseconds, which end 292 years after 1970."""
BUDGETS = (1e-6, 1e6)
"""Lowest and highest, in episodes per asset and day: one in 2,700 years, and a dozen a second."""


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


def one_or_more(value: Any) -> Any:
    """A list of texts; a single text is a list of one, and null of none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def check_registry_url(url: str) -> None:
    """Refuse (ValueError) what is no address of a schema registry: a secret would be shown with it in every message."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url {shown(url)} is not an address as https://registry:8081")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url holds a password: write username and password_file")
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"url {shown(url)} has more than an address and a path")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"url {shown(url)}: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, without DNS: what a name resolves to can change until it is used.

    ``localhost`` in any case, 127.0.0.0/8, also as IPv4 in IPv6, and ::1. Other spellings that some resolvers
    accept (``127.1``, ``2130706433``, ``localhost.``) do not count.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def parse_budget(value: Any) -> Any:
    """``2 per week`` is of each asset, ``10 per day per stream`` of all assets of a stream together."""
    if isinstance(value, Budget):
        return value
    match = (
        re.fullmatch(rf"\s*({NUMBER})\s*(?:per|/)\s*([a-z]+)(?:\s*(?:per|/)\s*(asset|stream))?\s*", value)
        if isinstance(value, str)
        else None
    )
    if match is None or match[2] not in PER:
        raise ValueError(
            f"{shown(value)} is not a budget: write for example '2 per week' (of each asset) or '10 per day per stream'"
        )
    per_day = float(match[1]) * PER[match[2]]
    if not BUDGETS[0] <= per_day <= BUDGETS[1]:
        raise ValueError(
            f"{shown(value)} is no budget to calibrate to: from one in 1,000,000 days to 1,000,000 a day"
        )
    return Budget(per_day, per_stream=match[3] == "stream")


def parse_persistence(value: Any) -> Any:
    """``2 of 3`` as (2, 3)."""
    match = re.fullmatch(r"\s*([0-9]{1,3})\s*of\s*([0-9]{1,3})\s*", value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 64:
        raise ValueError(
            f"{shown(value)} is not a persistence: write 'n of m' with 1 <= n <= m <= 64, as '2 of 3'"
        )
    return (int(match[1]), int(match[2]))


def parse_cpu_share(value: Any) -> Any:
    """``1%`` as 0.01; 0 and null as 0, for none. A bare number is refused, because 1 could mean all or a hundredth."""
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


def parse_min_deviation(value: Any) -> Any:
    """A distance in the sensor's unit as a number, or ``5%`` of the expected value as that text; not negative."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < math.inf:
        return float(value)
    match = re.fullmatch(rf"\s*({NUMBER})\s*(%?)\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is no distance: write 0.5, in the sensor's unit, or 5%")
    return f"{match[1]}%" if match[2] else float(match[1])


def positive(value: timedelta) -> timedelta:
    """Refuse a duration of zero or less."""
    if value <= timedelta(0):
        raise ValueError("a duration here must be longer than zero")
    return value


def named(value: str) -> str:
    """Refuse an empty text."""
    if not value.strip():
        raise ValueError(f"{shown(value)} is empty: it must be left out or name something")
    return value


def host_name(value: str) -> str:
    """Refuse what is no host name of a ``Host`` header: no scheme, no port; it may begin with ``*.``."""
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
    """Refuse a name that Kafka would not accept for a topic."""
    if not is_topic_name(value):
        raise ValueError(
            f"{shown(value)} is no topic name: 1 to 249 of the characters A-Z a-z 0-9 . _ - (and neither . nor ..)"
        )
    return value


def legal_instance_id(value: str) -> str:
    """Refuse a name that is neither ``$hostname`` nor one that Kafka would accept for a static member."""
    if value != "$hostname" and not is_topic_name(value):
        raise ValueError(
            f"{shown(value)} is no instance id: $hostname, or 1 to 249 of the characters A-Z a-z 0-9 . _ -"
        )
    return value


def is_topic_name(value: str) -> bool:
    """Whether Kafka would accept this as the name of a topic."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) is not None and value not in (".", "..")


def folder(value: Any) -> Any:
    """Refuse an empty path: ``Path("")`` would be the working directory, which an empty value does not mean."""
    return named(value) if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(named)]
HostName = Annotated[str, AfterValidator(host_name)]
TopicName = Annotated[str, AfterValidator(legal_topic)]
InstanceId = Annotated[str, AfterValidator(legal_instance_id)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(lambda v: positive(parse_duration(v)))]

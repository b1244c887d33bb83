"""``anomalyd maintenance``: planned stops, told to the running daemon through its topic of control messages.

In: the settings, and what is to be planned. Out: the windows of the configuration and of the topic, as entries that
``--json`` prints and the table shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from daemon.adapters.kafka.control_topic import ControlTopic, send
from daemon.commands.known_assets import unknown_assets
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import Control, MaintenanceOrder, checked, written
from daemon.domain import EPOCH, iso, to_ns
from daemon.errors import ConflictError, UsageError
from daemon.maintenance import MaintenanceWindow, ns_of


def assets_of(words: Iterable[str]) -> tuple[str, ...]:
    """The assets that people name, in order, each once; several of one word have commas between them.

    Raises:
        UsageError: a word names none.
    """
    found = set[str]()
    for word in words:
        names = {name.strip() for name in word.split(",")} - {""}
        if not names:
            raise UsageError("an asset has no name: write the assets as pump-01, pump-02")
        found |= names
    return tuple(sorted(found))


def named(order: MaintenanceOrder, configured: Collection[str] = ()) -> MaintenanceOrder:
    """A planned stop with a name: its own, or one made of what it is, so that no other stop has it.

    Args:
        order: the stop.
        configured: names of the stops of the configuration, which it may not have.

    Raises:
        UsageError: it cannot be used.
    """
    if order.end <= order.start:
        raise UsageError("a planned stop lasts longer than nothing: write how long, as 30m or 2h")
    try:
        name = order.maintenance or _made_name(order)
        order = msgspec.structs.replace(order, maintenance=name)
        MaintenanceWindow.ordered(order)
        order = checked(order)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if name in configured:
        raise ConflictError(f"{name!r} is of the configuration (alerts.maintenance): choose another name")
    return order


def _made_name(order: MaintenanceOrder) -> str:
    """Its first assets and its start, for people, and four digits of all that makes it another stop than others."""
    whose = "+".join(order.assets[:3])[:200] or "all"
    stop = written(msgspec.structs.replace(order, maintenance="", reason="", by=""))
    digits = hashlib.sha256(stop).hexdigest()[:4]
    return f"{whose}-{order.start.astimezone(UTC):%Y%m%dT%H%M}-{digits}"


async def add(settings: Settings, order: MaintenanceOrder) -> list[str]:
    """Tell the daemon of a planned stop.

    Returns:
        What to ask back: assets that nobody has heard of.

    Raises:
        UsageError: the stream is not configured, or the configuration has a stop of this name.
        DaemonError: it could not be written.
    """
    names = [stream.name for stream in settings.streams]
    if order.stream and order.stream not in names:
        raise UsageError(f"no stream {order.stream!r}; there are {', '.join(names)}")
    await send(kafka_settings(settings), settings.outputs.prefix, named(order, _configured(settings)))
    return await unknown_assets(settings, order.assets, order.stream)


async def end(settings: Settings, name: str, now: datetime, by: str = "") -> None:
    """End a planned stop now, or call it off.

    Raises:
        UsageError: there is none of this name, which names those there are; or it is over already.
        DaemonError: the topic cannot be read or written.
    """
    for order in ending(await _orders(settings), _configured(settings), name, now, by):
        await send(kafka_settings(settings), settings.outputs.prefix, order)


def ending(
    orders: Mapping[str, MaintenanceOrder], configured: Collection[str], name: str, now: datetime, by: str
) -> list[MaintenanceOrder]:
    """The messages that end the planned stop of a name now, see ``shortened``.

    Args:
        orders: the stops that were told, by name.
        configured: names of those of the configuration.
        name: of the stop.
        now: when it ends.
        by: who says so.

    Raises:
        ConflictError: there is none of this name, which names those there are; or it is over already.
    """
    if name not in orders:
        if name in configured:
            raise ConflictError(f"{name!r} is of the configuration: take it out of alerts.maintenance")
        known = ", ".join(name for name, order in orders.items() if not _is_over(order, now)) or "none"
        raise ConflictError(f"no maintenance {name!r} was told; there is {known}")
    return shortened(orders[name], now, by)


def shortened(order: MaintenanceOrder, now: datetime, by: str = "") -> list[MaintenanceOrder]:
    """The messages that end a planned stop now; what it was until now it stays.

    One that recurs ends with its last occurrence that is over. What has passed of the present occurrence, which is cut
    short, becomes a stop of its own then, told first: between the two messages nothing is taken back.

    Raises:
        ConflictError: it is over already.
    """
    window, now_ns = MaintenanceWindow.ordered(order), ns_of(now)
    if window.is_over(now_ns):
        last_ns = max((end for _, end in window.between(window.start_ns, now_ns)), default=window.end_ns)
        raise ConflictError(f"{order.maintenance!r} is over since {_instant(last_ns):%Y-%m-%dT%H:%M:%SZ}")
    order = msgspec.structs.replace(order, by=by or order.by)
    spans = window.between(window.start_ns, now_ns)
    cut_ns = next((start for start, end in spans if end > now_ns), None)
    begins = now if cut_ns is None else _instant(cut_ns)
    rest = msgspec.structs.replace(order, start=begins, end=now, rrule="", timezone="")
    if all(end > now_ns for _, end in spans):
        return [rest]
    rule = [part for part in order.rrule.strip().split(";") if not part.upper().startswith("UNTIL=")]
    until = now if cut_ns is None else begins - timedelta(seconds=1)
    ended = msgspec.structs.replace(
        order, rrule=";".join([*rule, f"UNTIL={until.astimezone(UTC):%Y%m%dT%H%M%SZ}"])
    )
    if cut_ns is None:
        return [ended]
    return [
        msgspec.structs.replace(rest, maintenance=f"{order.maintenance[:900]}-{begins:%Y%m%dT%H%M}"),
        ended,
    ]


async def listed(settings: Settings, now: datetime, *, over: bool = False) -> list[dict[str, Any]]:
    """The planned stops: of the configuration, and those that were told; with ``over`` also those that are past.

    Raises:
        DaemonError: the topic cannot be read.
    """
    configured = [
        MaintenanceOrder(each.window().name, each.start, each.end, each.assets, "", each.rrule, each.timezone)
        for each in settings.alerts.maintenance
    ]
    rows = [entry(order, "config", now) for order in configured]
    rows += [entry(order, "message", now) for order in (await _orders(settings)).values()]
    return [row for row in rows if over or row["state"] != "over"]


async def _orders(settings: Settings) -> dict[str, MaintenanceOrder]:
    """What the topic says, by name; the last message counts."""
    topic = ControlTopic(kafka_settings(settings), settings.outputs.prefix)
    try:
        await topic.refresh()
    finally:
        await topic.stop()
    return by_name(received.control for received in topic.received)


def by_name(controls: Iterable[Control]) -> dict[str, MaintenanceOrder]:
    """The stops among control messages; the last message of a name counts."""
    return {each.maintenance: each for each in controls if isinstance(each, MaintenanceOrder)}


def _configured(settings: Settings) -> list[str]:
    """The names of the planned stops of the configuration."""
    return [each.window().name for each in settings.alerts.maintenance]


def _instant(time_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_ns // 1_000)


def _is_over(order: MaintenanceOrder, now: datetime) -> bool:
    return MaintenanceWindow.ordered(order).is_over(ns_of(now))


def entry(order: MaintenanceOrder, source: str, now: datetime) -> dict[str, Any]:
    """One planned stop as it stands, of ``config`` or of a ``message``."""
    window, now_ns = MaintenanceWindow.ordered(order), ns_of(now)
    current = window.at(now_ns)
    following = current or window.after(now_ns)
    state = "over" if window.is_over(now_ns) else "planned" if current is None else "active"
    return {
        "name": order.maintenance,
        "state": state,
        "assets": list(order.assets),
        "stream": order.stream or None,
        "start": iso(to_ns(order.start.astimezone(UTC) - EPOCH)),
        "end": iso(to_ns(order.end.astimezone(UTC) - EPOCH)),
        "next_start": iso(following[0]) if following is not None else None,
        "next_end": iso(following[1]) if following is not None else None,
        "until": iso(current[1]) if current is not None else None,
        "rrule": order.rrule or None,
        "timezone": order.timezone or None,
        "reason": order.reason or None,
        "by": order.by or None,
        "source": source,
    }

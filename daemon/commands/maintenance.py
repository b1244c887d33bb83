"""``anomalyd maintenance``: planned stops, told to the running daemon through its topic of control messages.

In: the settings, and what is to be planned. Out: the windows of the configuration and of the topic, as entries that
``--json`` prints and the table shows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from daemon.adapters.kafka.control_topic import ControlTopic, send
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import MaintenanceOrder, read_control, written
from daemon.domain import EPOCH, iso, to_ns
from daemon.errors import UsageError
from daemon.maintenance import MaintenanceWindow, ns_of


def named(order: MaintenanceOrder) -> MaintenanceOrder:
    """A planned stop with a name: its own, or one made of its assets and its start.

    Raises:
        UsageError: it cannot be used.
    """
    if order.end <= order.start:
        raise UsageError("a planned stop lasts longer than nothing: write 2h, as in: add pump-01 2h")
    whose = "+".join(order.assets[:3]) or "all"
    name = order.maintenance or f"{whose}-{order.start.astimezone(UTC):%Y%m%dT%H%M}"
    order = msgspec.structs.replace(order, maintenance=name)
    try:
        MaintenanceWindow.ordered(order)
        return cast("MaintenanceOrder", read_control(written(order)))
    except ValueError as error:
        raise UsageError(str(error)) from error


async def add(settings: Settings, order: MaintenanceOrder) -> None:
    """Tell the daemon of a planned stop.

    Raises:
        UsageError: the stream is not configured.
        DaemonError: it could not be written.
    """
    names = [stream.name for stream in settings.streams]
    if order.stream and order.stream not in names:
        raise UsageError(f"no stream {order.stream!r}; there are {', '.join(names)}")
    await send(kafka_settings(settings), settings.outputs.prefix, order)


async def end(settings: Settings, name: str, now: datetime, by: str = "") -> MaintenanceOrder:
    """End a planned stop now, or call it off; returns what it is from now on.

    Raises:
        UsageError: there is none of this name; names those there are.
        DaemonError: the topic cannot be read or written.
    """
    orders = await _orders(settings)
    if name not in orders:
        if name in [each.name for each in settings.alerts.maintenance]:
            raise UsageError(f"{name!r} is of the configuration: take it out of alerts.maintenance")
        known = ", ".join(name for name, order in orders.items() if not _is_over(order, now)) or "none"
        raise UsageError(f"no maintenance {name!r} was told; there is {known}")
    old = orders[name]
    over = MaintenanceOrder(
        name, min(old.start, now), now, old.assets, old.stream, reason=old.reason, by=by or old.by
    )
    await send(kafka_settings(settings), settings.outputs.prefix, over)
    return over


async def listed(settings: Settings, now: datetime, *, over: bool = False) -> list[dict[str, Any]]:
    """The planned stops: of the configuration, and those that were told; with ``over`` also those that are past.

    Raises:
        DaemonError: the topic cannot be read.
    """
    configured = [
        MaintenanceOrder(each.window().name, each.start, each.end, each.assets, "", each.rrule, each.timezone)
        for each in settings.alerts.maintenance
    ]
    rows = [_entry(order, "config", now) for order in configured]
    rows += [_entry(order, "message", now) for order in (await _orders(settings)).values()]
    return [row for row in rows if over or row["state"] != "over"]


async def _orders(settings: Settings) -> dict[str, MaintenanceOrder]:
    """What the topic says, by name; the last message counts."""
    topic = ControlTopic(kafka_settings(settings), settings.outputs.prefix)
    try:
        await topic.refresh()
    finally:
        await topic.stop()
    controls = [received.control for received in topic.received]
    return {each.maintenance: each for each in controls if isinstance(each, MaintenanceOrder)}


def _is_over(order: MaintenanceOrder, now: datetime) -> bool:
    return MaintenanceWindow.ordered(order).is_over(ns_of(now))


def _entry(order: MaintenanceOrder, source: str, now: datetime) -> dict[str, Any]:
    """One planned stop as it stands."""
    window, now_ns = MaintenanceWindow.ordered(order), ns_of(now)
    current = window.at(now_ns)
    state = "over" if window.is_over(now_ns) else "planned" if current is None else "active"
    return {
        "name": order.maintenance,
        "state": state,
        "assets": list(order.assets),
        "stream": order.stream or None,
        "start": iso(to_ns(order.start.astimezone(UTC) - EPOCH)),
        "end": iso(to_ns(order.end.astimezone(UTC) - EPOCH)),
        "until": iso(current[1]) if current is not None else None,
        "rrule": order.rrule or None,
        "reason": order.reason or None,
        "by": order.by or None,
        "source": source,
    }

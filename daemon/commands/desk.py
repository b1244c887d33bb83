"""What people say on the page, passed on as the commands ``feedback``, ``maintenance`` and ``retrain`` do.

In: what the admin port has read. Out: the same control messages in ``<prefix>.feedback``, with the same checks; and what each
will do, in one line. Alerts are those that the page shows; nothing is read from a topic for a click.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from daemon.adapters.admin import EndedStop, NewStop
from daemon.adapters.telemetry import Status
from daemon.commands.feedback import Alert, effect_of
from daemon.commands.maintenance import assets_of, by_name, ending, named
from daemon.config import parse_duration
from daemon.control import Control, Feedback, MaintenanceOrder, Received, RetrainRequest, checked
from daemon.errors import ConflictError, UsageError

_C = TypeVar("_C", Feedback, MaintenanceOrder, RetrainRequest)


ASSETS_SAID = 5
"""Assets of a stop that an answer names."""


class ControlLog(Protocol):
    """The topic of control messages."""

    received: list[Received]

    async def send(self, control: Control) -> None:
        """Return when the message is durable."""
        ...


class ControlDesk:
    """See ``adapters.admin.desk.Desk``.

    Args:
        status: what the page shows.
        topic: takes the messages.
        now: the present, from which a stop lasts.
    """

    def __init__(
        self, status: Status, topic: ControlLog, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._status = status
        self._topic = topic
        self._now = now

    async def feedback(self, feedback: Feedback) -> str:
        """A verdict on an alert that the page shows."""
        feedback = _valid(feedback)
        alert = self._alert(feedback.fingerprint)
        if alert is None:
            raise ConflictError(f"no alert {feedback.fingerprint} is shown here any more")
        await self._topic.send(feedback)
        return effect_of(alert, feedback.verdict)

    async def plan(self, stop: NewStop) -> str:
        """A stop from now on, of the assets that are named or of all.

        Which assets there are nobody knows for sure: other replicas read others. So one that was not seen here is only said.
        """
        if bool(stop.assets) is stop.everything:
            raise UsageError("name the assets, or choose all of them")
        if stop.stream:
            self._check_stream(stop.stream)
        try:
            lasts = parse_duration(stop.lasts)
        except ValueError as error:
            raise UsageError(str(error)) from error
        start = self._now()
        typed = [name for name in stop.assets if not self._seen(name, stop.stream)]
        known = set(stop.assets).difference(typed)
        assets = tuple(sorted(known.union(assets_of(typed))))
        order = named(
            MaintenanceOrder("", start, start + lasts, assets, stop.stream, reason=stop.reason, by=stop.by),
            self._configured(),
        )
        await self._topic.send(order)
        whose = _some(assets) or "all assets"
        if stop.stream and len(self._status.streams) > 1:
            whose += f" of {stop.stream}"
        unseen = [name for name in assets if not self._seen(name, stop.stream)]
        note = f". Not seen here so far: {_some(unseen)}" if unseen else ""
        return f"{order.maintenance}: nothing opens on {whose} until {order.end:%Y-%m-%d %H:%M:%S} UTC{note}"

    async def end(self, stop: EndedStop) -> str:
        """A stop that was told ends now."""
        orders = by_name(received.control for received in self._topic.received)
        for order in ending(orders, self._configured(), stop.name, self._now(), stop.by):
            await self._topic.send(_valid(order))
        return f"{stop.name} has ended"

    async def retrain(self, request: RetrainRequest) -> str:
        """A training of a stream's model."""
        request = _valid(request)
        self._check_stream(request.retrain)
        await self._topic.send(request)
        return f"a training of {request.retrain} is due; what is decided comes under Trainings"

    def _check_stream(self, name: str) -> None:
        """That there is a stream of this name."""
        if name not in self._status.streams:
            raise ConflictError(f"no stream {name!r}; there are {', '.join(self._status.streams)}")

    def _seen(self, asset: str, stream: str) -> bool:
        """Whether an asset of a stream (empty: of any) has come here."""
        of = [each for name, each in self._status.streams.items() if stream in ("", name)]
        return any(each.knows(asset) or asset in each.tracks for each in of)

    def _configured(self) -> Sequence[str]:
        """The names of the planned stops of the configuration."""
        return [window.name for window in self._status.people.configured()]

    def _alert(self, fingerprint: str) -> Alert | None:
        """The alert as the page shows it."""
        event = self._status.alert(fingerprint)
        return None if event is None else Alert.of(event)


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - ASSETS_SAID
    return ", ".join(names[:ASSETS_SAID]) + (f" and {more} more" if more > 0 else "")


def _valid(control: _C) -> _C:
    """The message, if each reader of the topic takes it.

    Raises:
        UsageError: none does.
    """
    try:
        return checked(control)
    except ValueError as error:
        raise UsageError(str(error)) from error

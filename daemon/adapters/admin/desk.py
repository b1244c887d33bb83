"""What people may say on the page, and who passes it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from daemon.control import Feedback, RetrainRequest


class NewStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A planned stop from now on."""

    lasts: str  # a duration, as 2h
    assets: tuple[str, ...] = ()  # names, or what people type: several with commas between them
    everything: bool = False  # of all assets, instead of naming them
    reason: str = ""
    by: str = ""
    stream: str = ""  # whose assets they are; empty: of any stream


class EndedStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A planned stop that ends now."""

    name: str
    by: str = ""


class Desk(Protocol):
    """Passes on what people say, as the commands do; each method returns what that will do, in one line.

    They return when it is durable, and raise

    * UsageError: it cannot be said so.
    * ConflictError: what it is about is not there, or over.
    * DaemonError: it could not be passed on.
    """

    async def feedback(self, feedback: Feedback) -> str:
        """A verdict on an alert."""
        ...

    async def plan(self, stop: NewStop) -> str:
        """A planned stop."""
        ...

    async def end(self, stop: EndedStop) -> str:
        """A planned stop ends."""
        ...

    async def retrain(self, request: RetrainRequest) -> str:
        """A model is to be trained."""
        ...


@dataclass(frozen=True, slots=True)
class Control:
    """That people may say something on the page.

    ``token`` returns the secret that each request must carry, and raises DaemonError where it cannot be had now; None:
    it needs none.
    """

    desk: Desk
    token: Callable[[], str] | None = None

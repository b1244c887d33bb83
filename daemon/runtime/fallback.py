"""Whether the model in force still judges, and what to go back to when it does not.

A model that was admitted (``model.admission``) may yet raise on the windows of this stream, or say nothing
of windows that it could score. One such window is the window's affair: it stays unscored, and is counted. Many
in a row are the model's: the stream would be unwatched for as long as it is in force.

So the windows of a stream are counted as they come, whichever partition or asset they are of, and one that
could be judged ends the run. At ``MOST_FAILURES`` the model is given up: the one before it takes over, or
none, and then nothing is scored until a model comes. What was given up is refused from then on, by whatever
way it comes again: two models cannot take turns.
"""

from __future__ import annotations

import numpy as np

from daemon.errors import BundleError
from daemon.stream.judge import MOST_FAILURES
from daemon.stream.steps import Step

MOST_REFUSED = 1_000
"""Versions that are remembered as given up."""


class Fallback:
    """What one stream in this process can go back to, and what it will not go back to."""

    def __init__(self) -> None:
        self.before: bytes | None = None  # the bundle that was in force before
        self._run = self._longest = 0  # windows in a row that the model in force failed on
        self._given_up: dict[str, str] = {}  # version -> why

    def check(self, version: str) -> None:
        """Refuse a model that has failed here.

        Raises:
            BundleError: saying why.
        """
        if version in self._given_up:
            raise BundleError(f"model {version} is not used again: {self._given_up[version]}")

    def took_over(self, outgoing: bytes | None) -> None:
        """A model is in force from now on; ``outgoing`` is the bundle that was, if there was one."""
        self.before = outgoing
        self._run = self._longest = 0

    def judged(self, step: Step, version: str) -> bool:
        """Take in what came of a chunk of windows; True if ``version``, in force now, is to be given up."""
        if step.model != version:
            return False  # of the model before, whose last rows came out after it was replaced
        if step.failed is None:
            self._run = 0 if step.scored else self._run
            return False
        sound = np.flatnonzero(~step.failed)
        edges = np.concatenate([[-1 - self._run], sound, [len(step.failed)]])
        self._run = len(step.failed) - 1 - int(edges[-2])
        self._longest = int(np.diff(edges).max()) - 1
        return self._longest >= MOST_FAILURES

    def give_up(self, version: str) -> tuple[str, bytes | None]:
        """The model in force is not used again.

        Returns:
            Why, and the bundle to go back to; None if there is none.
        """
        reason = f"it failed on {self._longest} windows in a row"
        self._given_up[version] = reason
        while len(self._given_up) > MOST_REFUSED:
            del self._given_up[next(iter(self._given_up))]
        before = self.before
        self.took_over(None)
        return reason, before

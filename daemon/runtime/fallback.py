"""When a model in use is given up, which bundle takes over, and which versions are not used again.

A model that was admitted (``model.admission``) may still raise on the windows of this stream, or return no
score for windows that it could score. One such window stays unscored and is counted. Many in a row mean that
the model fails: the stream would stay unwatched for as long as it is in use.

The windows of a stream are counted in their order, over all partitions and assets; a window that was scored
ends the run. At ``MOST_FAILURES`` in a row the model is given up: the one before it takes over, or none, and
then nothing is scored until the next model. A version that was given up is refused from then on, from
wherever it comes, so that two models cannot alternate.
"""

from __future__ import annotations

import numpy as np

from daemon.errors import BundleError
from daemon.stream.asking import MOST_FAILURES
from daemon.stream.steps import Step

MOST_REFUSED = 1_000
"""Given up versions that are remembered."""


class Fallback:
    """The bundle that one stream can fall back to, and the versions that it has given up."""

    def __init__(self) -> None:
        self.before: bytes | None = None  # the bundle that was in use before
        self._run = self._longest = 0  # windows in a row that the model in use failed on
        self._given_up: dict[str, str] = {}  # version -> why

    def check(self, version: str) -> None:
        """Refuse a version that was given up.

        Raises:
            BundleError: with the reason.
        """
        if version in self._given_up:
            raise BundleError(f"model {version} is not used again: {self._given_up[version]}")

    def model_used(self, outgoing: bytes | None) -> None:
        """A model is in use from now on; ``outgoing`` is the bundle before it, if there was one."""
        self.before = outgoing
        self._run = self._longest = 0

    def judged(self, step: Step, version: str) -> bool:
        """Count the failures of a chunk of windows; True if ``version``, in use now, is to be given up."""
        if step.model != version:
            return False  # of the model before: its last rows were released after it was replaced
        if step.failed is None:
            self._run = 0 if step.scored else self._run
            return False
        sound = np.flatnonzero(~step.failed)
        edges = np.concatenate([[-1 - self._run], sound, [len(step.failed)]])
        self._run = len(step.failed) - 1 - int(edges[-2])
        self._longest = int(np.diff(edges).max()) - 1
        return self._longest >= MOST_FAILURES

    def give_up(self, version: str) -> tuple[str, bytes | None]:
        """Do not use the model again.

        Returns:
            The reason, and the bundle to fall back to; None if there is none.
        """
        reason = f"it failed on {self._longest} windows in a row"
        self._given_up[version] = reason
        while len(self._given_up) > MOST_REFUSED:
            del self._given_up[next(iter(self._given_up))]
        before = self.before
        self.model_used(None)
        return reason, before

"""The schemas that a poll's records name, fetched before it is fed, however long the registry takes.

A registry that does not answer is an outage like one of Kafka: the loop waits and asks again, records are neither
fed nor rejected, and nothing of theirs is committed. What was fed before is committed first, so that its alerts
do not wait as well. The event loop goes on meanwhile: heartbeats, the admin port and signals are served.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from daemon.adapters.schemas import RegistryError, SchemaRegistry
from daemon.adapters.telemetry import Reporter
from daemon.domain import Reading, Record
from daemon.mapping import RegistryAddress
from daemon.runtime.committing import Committer
from daemon.runtime.pauses import Pauses
from daemon.stream.decode import MessageSchemas, Schema, SchemaId, Schemas

ABSENT_FOR_S: Final = 60.0
"""An id that the registry did not have is asked for again after so long: it may have been registered since."""
RETRY_S: Final = (0.25, 15.0)
"""Between two attempts: at first, and at most."""


class SchemaSupply:
    """Fetches schemas for the streams of one loop.

    Args:
        addresses: of the registries that streams ask.
        reporter: receives what is fetched, and outages.
        committer: commits what was fed, before an outage is waited out.
        pauses: end a wait when the source closes.
        clock: monotonic seconds.

    Raises:
        ConfigError: a file that a registry's section names cannot be used.
    """

    def __init__(
        self,
        addresses: Iterable[RegistryAddress],
        reporter: Reporter,
        committer: Committer,
        pauses: Pauses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter = reporter
        self._committer = committer
        self._pauses = pauses
        self._clock = clock
        self._registries = {address: SchemaRegistry(address) for address in addresses}
        self._forgot: dict[MessageSchemas, float] = {}

    async def provide(self, schemas: MessageSchemas | None, items: Sequence[Record | Reading]) -> bool:
        """See to it that every schema that records name is known, or known to be absent.

        Args:
            schemas: of the stream's decoder.
            items: the records of a poll.

        Returns:
            Whether the records may be decoded; False if the source closes meanwhile.

        Raises:
            ConfigError: a library that a schema needs is not installed.
        """
        if schemas is None or schemas.known is None or schemas.registry is None:
            return True
        now = self._clock()
        if now - self._forgot.setdefault(schemas, now) >= ABSENT_FOR_S:
            self._forgot[schemas] = now
            schemas.known.forget_absent()
        registry = self._registries[schemas.registry]
        for _ in range(schemas.rounds):
            wanted = schemas.wanted(items)
            if not wanted:
                return True
            if not await self._fetch(wanted, schemas.known, registry):
                return False
        return True

    async def _fetch(self, wanted: list[SchemaId], known: Schemas, registry: SchemaRegistry) -> bool:
        """Ask for schemas until there is an answer for each; False if the source closes meanwhile."""
        delay, tries = RETRY_S[0], 0
        while wanted:
            try:
                found = await self._pauses.unless_closing(registry.schema(wanted[0]))
            except RegistryError as error:
                if not tries:
                    self._committer.request()
                    await self._committer.commit()
                tries += 1
                self._reporter.registry_failed(str(error), tries)
                await self._wait(delay)
                delay = min(2 * delay, RETRY_S[1])
                if self._pauses.closing:
                    return False
                continue
            if found is None:
                return False
            known.put(wanted.pop(0), found)
            self._reporter.schema_fetched(usable=isinstance(found, Schema), tries=tries)
            delay, tries = RETRY_S[0], 0
        return True

    async def _wait(self, seconds: float) -> None:
        """Wait between two attempts; a closing source ends it."""
        with self._reporter.waiting_for("schema_registry"):
            # Half of the wait is random, so that replicas do not ask together.
            await self._pauses.unless_closing(asyncio.sleep(seconds * random.uniform(0.5, 1.0)))

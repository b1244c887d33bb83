"""Topics and the group through the admin client: what exists, what is missing, creating it, and the probe.

aiokafka's admin client returns error codes and does not raise; here they become errors of one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    for_code,
)

from daemon.adapters.kafka.connecting import quietly, start_client
from daemon.adapters.kafka.failures import UnreachableError, describe
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import DEADLINE_S, START_S, KafkaSettings
from daemon.adapters.kafka.values import CheckResult, TopicShape, TopicSpec, TopicState
from daemon.errors import BrokerError, DaemonError, InputError

DEFAULT_LIMIT = 1_048_588  # Kafka's default of max.message.bytes
COORDINATOR_S = 10.0
"""For a young cluster to make the topic in which groups are kept: asked for the first time, it has no coordinator yet."""


@contextlib.asynccontextmanager
async def administering(
    settings: KafkaSettings, deadline_s: float = DEADLINE_S
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, with a deadline for everything that is done with it.

    Raises:
        UnreachableError, BrokerError: it cannot be done (now).
    """
    arguments = connection(settings)
    admin = await start_client(
        lambda: AIOKafkaAdminClient(**arguments, request_timeout_ms=15_000),
        settings,
        min(START_S, deadline_s),
    )
    try:
        async with asyncio.timeout(deadline_s):
            yield admin
    except TimeoutError as error:
        raise UnreachableError(
            f"Kafka at {settings.bootstrap_servers} did not answer within {deadline_s:.0f} s"
        ) from error
    except (KafkaError, OSError) as error:
        kind = UnreachableError if getattr(error, "retriable", True) else BrokerError
        raise kind(f"Kafka at {settings.bootstrap_servers}: {describe(error)}") from error
    finally:
        await quietly(admin.close())


async def partitions_of(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Every topic this user may see, with how many partitions it has.

    All topics are listed, never one by name: a request for a missing topic creates it where the broker has
    ``auto.create.topics.enable``.
    """
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def topic_states(settings: KafkaSettings, wanted: Sequence[TopicSpec]) -> list[TopicState]:
    """The state of each wanted topic, in their order."""
    async with administering(settings) as admin:
        there = await partitions_of(admin)
    return [TopicState(spec.name, there.get(spec.name, 0)) for spec in wanted]


async def check_topics(settings: KafkaSettings, names: Sequence[str]) -> dict[str, int]:
    """Partitions of each input topic.

    Raises:
        InputError: naming the topics that do not exist.
    """
    states = await topic_states(settings, [TopicSpec(name) for name in names])
    missing = [state.name for state in states if not state.partitions]
    if missing:
        raise InputError(missing_topics(settings, missing))
    return {state.name: state.partitions for state in states}


def missing_topics(settings: KafkaSettings, names: Sequence[str]) -> str:
    """The message for topics that do not exist."""
    which = ", ".join(repr(name) for name in names)
    are = "topic {} does" if len(names) == 1 else "topics {} do"
    return (
        f"{are.format(which)} not exist on Kafka at {settings.bootstrap_servers}, "
        "or this user may not describe it"
    )


async def topic_shapes(settings: KafkaSettings, names: Sequence[str]) -> dict[str, TopicShape]:
    """Partitions and limits of these topics; a missing one is reported at once, not after a client's 40 s.

    Raises:
        BrokerError: a topic does not exist.
    """
    async with administering(settings) as admin:
        there = await partitions_of(admin)
        if missing := [name for name in names if not there.get(name)]:
            raise BrokerError(missing_topics(settings, missing))
        limits = await settings_of(admin, names, "max.message.bytes")
    # A limit that this user may not see is taken to be Kafka's default.
    return {name: TopicShape(there[name], int(limits.get(name, DEFAULT_LIMIT))) for name in names}


async def settings_of(admin: AIOKafkaAdminClient, names: Sequence[str], key: str) -> dict[str, str]:
    """One setting of each topic; a topic whose settings this user may not see is left out."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, {key: None}) for name in names]
    found: dict[str, str] = {}
    for answer in await admin.describe_configs(wanted) if wanted else ():
        for code, _, _, name, entries in answer.resources:
            if code == 0 and entries:
                found[name] = entries[0][1]
    return found


async def ensure_topics(settings: KafkaSettings, wanted: Sequence[TopicSpec]) -> list[TopicState]:
    """Create the topics that are missing, with their settings; those that exist stay as they are.

    Replication is the broker's default. Returns once every topic has leaders.

    Raises:
        BrokerError: when the broker refuses one, with its reason.
    """
    async with administering(settings, 60.0) as admin:
        there = await partitions_of(admin)
        missing = [spec for spec in wanted if spec.name not in there]
        for spec in missing:
            # -1 everywhere means the broker's default; aiokafka takes -1 only beside an (empty) assignment
            answer = await admin.create_topics(
                [
                    NewTopic(
                        spec.name,
                        spec.partitions or -1,
                        -1,
                        replica_assignments={},
                        topic_configs=dict(spec.config),
                    )
                ]
            )
            for name, code, *reason in answer.topic_errors:
                # 36: it exists; another replica was quicker
                if code not in (0, 36):
                    detail = reason[0] if reason and reason[0] else describe(for_code(code)())
                    raise BrokerError(f"topic {name!r} could not be created: {detail}")
        while missing:
            described = {topic["topic"]: topic for topic in await admin.describe_topics()}
            if all(_has_leaders(described.get(spec.name)) for spec in missing):
                break
            await asyncio.sleep(0.05)
        there |= {spec.name: len(described[spec.name]["partitions"]) for spec in missing}
    created = {spec.name for spec in missing}
    return [TopicState(spec.name, there[spec.name], spec.name in created) for spec in wanted]


def _has_leaders(topic: Mapping[str, Any] | None) -> bool:
    return (
        topic is not None and bool(topic["partitions"]) and all(p["leader"] >= 0 for p in topic["partitions"])
    )


async def probe(
    settings: KafkaSettings, inputs: Sequence[str], wanted: Sequence[TopicSpec] = ()
) -> list[CheckResult]:
    """Check everything that ``run`` needs of the broker, without writing or joining anything."""
    where = settings.bootstrap_servers
    try:
        async with administering(settings) as admin:
            cluster = await admin.describe_cluster()
            brokers = cluster["brokers"]
            there = await partitions_of(admin)
            results = [
                CheckResult("broker", True, f"{where}: {len(brokers)} broker(s), {len(there)} topic(s)")
            ]
            clocks = await settings_of(
                admin, [name for name in inputs if name in there], "message.timestamp.type"
            )
            for name in inputs:
                count = there.get(name, 0)
                detail = f"{count} partition(s)" if count else missing_topics(settings, [name])
                if clocks.get(name) == "CreateTime":
                    detail += (
                        "; its timestamps are the producers' own (CreateTime): one with a clock far ahead"
                    )
                    detail += " makes others late and silent, which LogAppendTime would refuse as `future`"
                results.append(CheckResult(f"input topic {name}", count > 0, detail))
            compacted = [spec.name for spec in wanted if "compact" in spec.config.get("cleanup.policy", "")]
            policies = await settings_of(
                admin, [name for name in compacted if name in there], "cleanup.policy"
            )
            for spec in wanted:
                count = there.get(spec.name, 0)
                detail = f"{count} partition(s)" if count else "missing: `anomalyd topics --create` makes it"
                policy = policies.get(spec.name, "compact")
                if lossy := "compact" not in policy or "delete" in policy:
                    detail = (
                        f"its cleanup.policy is {policy}, so that what it keeps expires: set it to compact"
                    )
                results.append(CheckResult(f"topic {spec.name}", count > 0 and not lossy, detail))
            results.append(await _group_result(admin, settings.group_id))
            return results
    except DaemonError as error:
        return [CheckResult("broker", False, str(error))]


async def group_members(settings: KafkaSettings) -> int | None:
    """How many processes are in the group now; None where that cannot be told, or this user may not see it.

    Raises:
        BrokerError: the broker does not answer.
    """
    give_up = time.monotonic() + COORDINATOR_S
    async with administering(settings) as admin:
        while True:
            try:
                (answer,) = await admin.describe_consumer_groups([settings.group_id])
                break
            except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
                # A young cluster has no coordinator until it was asked for one; or that is just moving.
                if time.monotonic() > give_up:
                    return None
                await asyncio.sleep(0.2)
            except GroupAuthorizationFailedError:
                return None
    ((code, _group, _state, _type, _protocol, members, *_),) = answer.groups
    return None if code else len(members)


async def _group_result(admin: AIOKafkaAdminClient, group: str) -> CheckResult:
    """Whether this user may use the group, and whether there is a broker that keeps it."""
    what = f"group {group}"
    give_up = time.monotonic() + COORDINATOR_S
    while True:
        try:
            await admin.find_coordinator(group)
        except GroupAuthorizationFailedError:
            return CheckResult(what, False, "this user lacks READ on the group")
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError) as error:
            if time.monotonic() > give_up:
                detail = f"no broker coordinates it within {COORDINATOR_S:.0f} s, so nothing can be consumed"
                return CheckResult(what, False, f"{detail}: {describe(error)}")
            await asyncio.sleep(0.2)
        except KafkaError as error:
            return CheckResult(what, False, f"its coordinator cannot be found: {describe(error)}")
        else:
            return CheckResult(what, True, "this user may use it")

"""``anomalyd check``: whether the configuration, the environment and the broker are in order.

In: the settings. Out: a ``CheckResult`` per question, in the order in which they are printed.
"""

from __future__ import annotations

import asyncio

from daemon.adapters.kafka import CheckResult
from daemon.adapters.schemas import RegistryError, SchemaRegistry
from daemon.asset_drift import FEWEST_WINDOWS
from daemon.commands.conditions import conditions_in_topics, declared_conditions
from daemon.commands.topic_records import readings_in_topics
from daemon.commands.wiring import connection_problem, probe
from daemon.config import HttpSection, Settings, unknown_environment
from daemon.domain import to_ns
from daemon.errors import ConfigError
from daemon.mapping import RegistryAddress
from daemon.runtime.admin_port import control_token
from daemon.stream.decode import MessageSchemas, compile_inner, decode_with


async def check(settings: Settings, *, broker: bool) -> list[CheckResult]:
    """Check the settings and the environment; with ``broker``, also what Kafka answers and what
    the streams' mappings make of the newest records."""
    results = [CheckResult("configuration", True, f"{len(settings.streams)} stream(s)")]
    problems = unknown_environment()
    results += [CheckResult("environment", False, problem) for problem in problems]
    if not problems:
        results.append(CheckResult("environment", True, "every ANOMALYD_ variable names a key"))
    results += declared_conditions(stream.spec() for stream in settings.streams)
    results += decoders(settings)
    results += short_shadows(settings)
    results += page_control(settings.http)
    problem = connection_problem(settings)
    if problem is not None:
        results.append(CheckResult("connection", False, problem))
    elif broker:
        results += await probe(settings)
        results += await readings_in_topics(settings)
        results += await conditions_in_topics(settings)
    if broker and (address := settings.schema_registry.address()) is not None:
        results.append(await _registry_answers(address))
    return results


def short_shadows(settings: Settings) -> list[CheckResult]:
    """The streams of which one asset has too few windows in a shadow for a decision."""
    lasts, found = settings.promotion.shadow, []
    for spec in (stream.spec() for stream in settings.streams if lasts is not None):
        windows = 0 if lasts is None else to_ns(lasts) // (spec.hop * spec.period_ns)
        if windows < FEWEST_WINDOWS:
            detail = (
                f"an asset has {windows} windows in promotion.shadow, and {FEWEST_WINDOWS} are needed:"
                " it takes as many times as long as they take"
            )
            found.append(CheckResult(f"shadow of {spec.name}", True, detail))
    return found


def page_control(http: HttpSection) -> list[CheckResult]:
    """Whether the token can be had that people need to tell the daemon something on the page."""
    if not http.control or http.control_token_file is None:
        return []
    try:
        control_token(http.control_token_file)
    except ConfigError as error:
        return [CheckResult("control on the page", False, str(error))]
    return [CheckResult("control on the page", True, f"with the token of {http.control_token_file}")]


def decoders(settings: Settings) -> list[CheckResult]:
    """What is wrong with the decoders of streams: a library that is not installed, a schema that cannot be used."""
    found = []
    for stream in settings.streams:
        rule = None if stream.mapping is None else stream.spec(settings.schema_registry.address()).input
        if rule is None:
            continue
        try:
            schemas = MessageSchemas(rule.decode, inner=rule.inner).known
            decode_with(rule.decode, schemas=schemas)
            compile_inner(rule.inner, settings.limits.max_record_bytes, schemas)
        except ConfigError as error:
            found.append(CheckResult(f"decoder of {stream.name}", False, str(error)))
    return found


async def _registry_answers(address: RegistryAddress) -> CheckResult:
    """Whether the schema registry answers, and as whom it is asked."""
    try:
        registry = SchemaRegistry(address)
        subjects = await asyncio.to_thread(registry.subjects)
    except (ConfigError, RegistryError) as error:
        return CheckResult("schema registry", False, str(error))
    return CheckResult("schema registry", True, f"{registry.name}: {subjects} subject(s)")

"""``anomalyd check``: whether the configuration, the environment and the broker are in order.

In: the settings. Out: a ``CheckResult`` per question, in the order in which they are printed.
"""

from __future__ import annotations

from daemon.adapters.kafka import CheckResult
from daemon.commands.conditions import conditions_in_topics, declared_conditions
from daemon.commands.topic_records import readings_in_topics
from daemon.commands.wiring import connection_problem, probe
from daemon.config import Settings, unknown_environment


async def check(settings: Settings, *, broker: bool) -> list[CheckResult]:
    """Check the settings and the environment; with ``broker``, also what Kafka answers and what
    the streams' mappings make of the newest records."""
    results = [CheckResult("configuration", True, f"{len(settings.streams)} stream(s)")]
    problems = unknown_environment()
    results += [CheckResult("environment", False, problem) for problem in problems]
    if not problems:
        results.append(CheckResult("environment", True, "every ANOMALYD_ variable names a key"))
    results += declared_conditions(stream.spec() for stream in settings.streams)
    problem = connection_problem(settings)
    if problem is not None:
        results.append(CheckResult("connection", False, problem))
    elif broker:
        results += await probe(settings)
        results += await readings_in_topics(settings)
        results += await conditions_in_topics(settings)
    return results

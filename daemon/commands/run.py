"""``anomalyd run``: build the loop on Kafka from settings, and run it until SIGTERM.

SIGTERM closes the source; the loop publishes and commits what is in flight, leaves the group, and the
process exits 0. A crash of any task ends the process non-zero, so that its supervisor starts it again from
the committed position.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import structlog

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, KafkaSink, KafkaSource, KafkaStats, StateTopic, Transactions
from daemon.adapters.kafka.control_topic import ControlTopic
from daemon.adapters.registry import Decisions, KafkaModels
from daemon.adapters.telemetry import Metrics, Reporter, SourceCounts, Status
from daemon.commands.desk import ControlDesk
from daemon.commands.wiring import (
    create_topics,
    encoder,
    history,
    input_topics,
    kafka_settings,
    seed_models,
)
from daemon.config import Settings
from daemon.model.bundle import Bundle
from daemon.runtime.admin_port import admin_port
from daemon.runtime.closed_alerts import recall_closed_alerts
from daemon.runtime.loop import Loop
from daemon.runtime.model_store import ModelStore
from daemon.runtime.options import LoopOptions
from daemon.runtime.process import (
    Closable,
    called_on_hangup,
    ended_by_signals,
    keep_freed_memory,
    run_until_drained,
    tune_garbage_collection,
)
from daemon.runtime.reloading import Reloading
from daemon.runtime.stream_run import StreamPlan, StreamRun

log = structlog.get_logger()

RETRY_S = (0.5, 15.0)
"""Between two attempts to reach the broker: at first, and at most."""
LOG_EVERY_S = 60.0
"""A broker that stays unreachable is logged this often."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Where the configuration comes from, to read it anew: at SIGHUP, and when the file has changed."""

    path: Path
    read: Callable[[], Settings]


async def run(settings: Settings, bundle: Bundle | None = None, file: ConfigFile | None = None) -> None:
    """Run on Kafka until SIGTERM.

    Args:
        settings: the configuration.
        bundle: a model to start with, for the streams that it is compatible with.
        file: of the configuration; None: it stays as it is.

    Raises:
        DaemonError: an error that waiting does not resolve (a missing topic, a refused credential ...).
    """
    connection = kafka_settings(settings)
    streams = stream_runs(settings, connection)
    seed_models(streams, bundle)
    names = [stream.spec.name for stream in streams]
    reporter = Reporter(
        Metrics(names, input_topics(settings)),
        Status({stream.spec.name: stream.plan.learn_rows for stream in streams}),
    )
    source, sink = kafka_ends(settings, connection)
    reporter.reads_kafka(lambda: source.silence_s)
    models = KafkaModels(connection, settings.outputs.prefix, names)
    controls = ControlTopic(connection, settings.outputs.prefix)
    reloading = (
        None if file is None else Reloading(settings, file.path, file.read, streams, reporter, time.monotonic)
    )
    counted = counts_reported(source.stats, lambda: models.refused, reporter)

    def each_round() -> None:
        counted()
        if reloading is not None:
            reloading.look()

    fenced = settings.kafka.delivery == "exactly_once"
    decisions = Decisions(connection, settings.outputs.prefix, fenced=fenced)
    ending = asyncio.Event()

    def end() -> None:
        if not ending.is_set():
            log.info("draining")
            ending.set()
            reporter.draining()
            source.close()

    loop = Loop(
        source,
        sink,
        streams,
        reporter,
        ModelStore(settings.model.directory, models, settings.model.keep, decisions),
        LoopOptions(
            commit_every=settings.kafka.commit_interval,
            checkpoints=True,
            each_round=each_round,
            controls=controls,
        ),
    )
    tune_garbage_collection()
    keep_freed_memory()
    log.info(
        "starting", streams=names, bootstrap_servers=connection.bootstrap_servers, group=connection.group_id
    )
    desk = ControlDesk(reporter.status, controls)
    async with admin_port(settings.http, reporter, desk) as address:
        log.info("admin_port_open", address=address)
        hangup = nullcontext() if reloading is None else called_on_hangup(reloading.request)
        with ended_by_signals(end), hangup:
            try:
                await _reach_broker(settings, reporter, ending)
                reporter.connected()
                if not ending.is_set():
                    await recall_closed_alerts(connection, settings.outputs.prefix, reporter.status)
                    writers: list[Closable] = (
                        [models, decisions] if sink is None else [sink, models, decisions]
                    )
                    await run_until_drained(loop.run, ending, writers)
            finally:
                await source.stop()
                if sink is not None:
                    await sink.stop()
                await models.stop()
                await controls.stop()
                await decisions.stop()
    log.info("stopped")


def stream_runs(settings: Settings, connection: KafkaSettings) -> list[StreamRun]:
    """Every configured stream, with its topics as the history of its trainings."""
    streams = []
    for section in settings.streams:
        plan = StreamPlan.of(settings, section)
        streams.append(
            StreamRun(
                plan,
                scores=settings.outputs.scores,
                history=history(settings, connection, plan),
                drills=True,
            )
        )
    return streams


def kafka_ends(settings: Settings, connection: KafkaSettings) -> tuple[KafkaSource, KafkaSink | None]:
    """The source, and the sink; with exactly-once delivery the source's transactions carry the outputs."""
    prefix = settings.outputs.prefix
    state = StateTopic(connection, prefix)
    transactions, sink = None, None
    if settings.kafka.delivery == "exactly_once":
        transactions = Transactions(connection, prefix, encoder(), state)
    else:
        sink = KafkaSink(connection, prefix, encoder())
    return KafkaSource(connection, input_topics(settings), state, transactions), sink


def counts_reported(stats: KafkaStats, refused: Callable[[], int], reporter: Reporter) -> Callable[[], None]:
    """Make the function that reports what the source has counted; the loop calls it every round.

    Args:
        stats: of the source.
        refused: returns how many records of the models topic were refused.
        reporter: receives the counts.
    """

    def report() -> None:
        reporter.source_counted(
            SourceCounts(
                rebalances=stats.rebalances,
                commits=stats.commits,
                failed_commits=stats.stale_commits + stats.delayed_commits + stats.rewinds,
                truncated_restores=stats.clamped,
                refused_bundles=refused(),
            )
        )

    return report


async def _reach_broker(settings: Settings, reporter: Reporter, ending: asyncio.Event) -> None:
    """Wait for the broker, then create our topics. A broker that is down is logged once a minute."""
    wait, logged_at = RETRY_S[0], -LOG_EVERY_S
    with reporter.waiting_for("kafka"):
        while not ending.is_set():
            try:
                await create_topics(settings)
                return
            except kafka.UnreachableError as error:
                now = time.monotonic()
                if now - logged_at >= LOG_EVERY_S:
                    logged_at = now
                    log.warning("broker_unreachable", reason=str(error), next_try_s=round(wait, 1))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), wait)
                wait = min(wait * 2, RETRY_S[1])

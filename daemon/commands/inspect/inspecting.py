"""The command: what the sample is, a table or messages of a file or topic."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon.adapters.files import first_lines, is_lines
from daemon.adapters.sample import (
    SAMPLE_LINES,
)
from daemon.commands.broker import kafka_only, with_servers
from daemon.commands.inputs import check_reading
from daemon.commands.inspect.inspection import Inspection, InspectOptions, settings_of
from daemon.commands.inspect.messages import of_records
from daemon.commands.inspect.tables import of_table
from daemon.commands.samples import check_topic, decoding_of, exists, newest_of_topic
from daemon.domain import Record
from daemon.errors import UsageError


def inspect_sample(options: InspectOptions) -> Inspection:
    """Look at the sample; an event loop is run only for a topic, and for schemas that messages name.

    Raises:
        UsageError: a configuration and a preset were given.
        DaemonError: the sample cannot be read, or the configuration is wrong.
    """
    if options.config is not None and options.format is not None:
        raise UsageError(
            "--config and --format exclude each other: the configuration says how messages are read"
        )
    path = Path(options.sample)
    if exists(path):
        check_reading(options.reading, path)
        if not is_lines(path):
            return of_table(path, options)
        lines, whole = first_lines(path, SAMPLE_LINES)
        records = [Record(offset, None, line, -1) for offset, line in enumerate(lines)]
        return of_records(records, whole, options, None)
    check_topic(options.sample, options.bootstrap_servers)
    if options.config is None:
        settings = kafka_only(None, options.bootstrap_servers, options.schema_registry)
    else:
        settings = with_servers(settings_of(options), options.bootstrap_servers)
    records, whole = asyncio.run(newest_of_topic(settings, options.sample))
    decoding = None
    if options.config is None and options.format is None:
        address = settings.schema_registry.address()
        decoding = asyncio.run(decoding_of(records, options.sample, address))
    return of_records(records, whole, options, options.sample, decoding)

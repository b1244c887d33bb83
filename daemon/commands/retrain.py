"""``anomalyd retrain``: ask the running daemon to train a stream's model now.

In: the settings, and who asks why. Out: a ``RetrainRequest`` in ``<prefix>.feedback``; whichever replica trains takes it
up, and its decision on ``<prefix>.retrain`` names it.
"""

from __future__ import annotations

import contextlib

from daemon.adapters.kafka import group_members
from daemon.adapters.kafka.control_topic import feedback_topic, send
from daemon.commands.inputs import chosen_stream
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import RetrainRequest, checked
from daemon.errors import DaemonError, UsageError


async def request_training(
    settings: Settings, stream: str | None, reason: str, by: str
) -> tuple[str, list[str]]:
    """Write the request.

    Args:
        settings: the configuration.
        stream: whose model; None: of the only stream.
        reason, by: why, and who asks.

    Returns:
        The stream's name; and that nobody is there to train, if so.

    Raises:
        UsageError: no such stream, or the reason is too long.
        DaemonError: the topic cannot be written.
    """
    name = chosen_stream(settings, stream).name
    try:
        request = checked(RetrainRequest(name, reason, by))
    except ValueError as error:
        raise UsageError(str(error)) from error
    connection, prefix = kafka_settings(settings), settings.outputs.prefix
    await send(connection, prefix, request)
    members = None
    with contextlib.suppress(DaemonError):  # the request is written: that is no failure
        members = await group_members(connection)
    waits = f"the request waits in {feedback_topic(prefix).name} for the next one"
    return name, [f"no daemon of the group {connection.group_id} runs now: {waits}"] if members == 0 else []

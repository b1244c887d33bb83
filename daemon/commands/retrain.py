"""``anomalyd retrain``: ask the running daemon to train a stream's model now.

In: the settings, and who asks why. Out: a ``RetrainRequest`` in ``<prefix>.feedback``; whichever replica trains takes it
up, and its decision on ``<prefix>.retrain`` names it.
"""

from __future__ import annotations

from daemon.adapters.kafka.control_topic import send
from daemon.commands.inputs import chosen_stream
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import RetrainRequest, checked
from daemon.errors import UsageError


async def request_training(settings: Settings, stream: str | None, reason: str, by: str) -> str:
    """Write the request; returns the stream's name.

    Args:
        settings: the configuration.
        stream: whose model; None: of the only stream.
        reason, by: why, and who asks.

    Raises:
        UsageError: no such stream, or the reason is too long.
        DaemonError: the topic cannot be written.
    """
    name = chosen_stream(settings, stream).name
    try:
        request = checked(RetrainRequest(name, reason, by))
    except ValueError as error:
        raise UsageError(str(error)) from error
    await send(kafka_settings(settings), settings.outputs.prefix, request)
    return name

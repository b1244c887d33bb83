"""``anomalyd retrain``: ask the running daemon to train a stream's model now.

In: the settings, and who asks why. Out: a ``RetrainRequest`` in ``<prefix>.feedback``; whichever replica trains takes it
up, and its decision on ``<prefix>.retrain`` names it.
"""

from __future__ import annotations

from daemon.adapters.kafka import Message, Writer
from daemon.commands.inputs import chosen_stream
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import RetrainRequest, written


async def request_training(settings: Settings, stream: str | None, reason: str, by: str) -> str:
    """Write the request; returns the stream's name.

    Args:
        settings: the configuration.
        stream: whose model; None: of the only stream.
        reason, by: why, and who asks.

    Raises:
        DaemonError: no such stream, or the topic cannot be written.
    """
    name = chosen_stream(settings, stream).name
    topic, request = f"{settings.outputs.prefix}.feedback", written(RetrainRequest(name, reason, by))
    writer = Writer(kafka_settings(settings))
    try:
        await writer.write([Message(topic, None, request, (), 0)])
    finally:
        await writer.stop()
    return name

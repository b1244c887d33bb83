"""``anomalyd retrain``: ask the running daemon to train a stream's model now.

In: the settings, and who asks why. Out: a ``RetrainRequest`` in ``<prefix>.feedback``; whichever replica trains takes it
up, and its decision on ``<prefix>.retrain`` names it.
"""

from __future__ import annotations

from daemon.adapters.kafka.control_topic import send
from daemon.commands.inputs import chosen_stream
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import RetrainRequest


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
    await send(kafka_settings(settings), settings.outputs.prefix, RetrainRequest(name, reason, by))
    return name

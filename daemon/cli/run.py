"""``anomalyd run``: the daemon on Kafka, until SIGTERM. The only command that logs by the configuration."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from daemon.adapters.telemetry import configure_logging
from daemon.cli.options import DEFAULT_CONFIG, Config, Sets
from daemon.cli.terminal import run_coroutine, settings_from
from daemon.config import unknown_environment
from daemon.errors import DaemonError


def run(
    config: Config = None,
    sets: Sets = None,
    model: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="A model bundle to start with.", show_default=False)
    ] = None,
) -> None:
    """Run the daemon on Kafka, until SIGTERM.

    Without a model it says `learning`, collects `model.learn_rows` rows, trains beside consuming,
    and goes live. A model that the registry (the topic `<prefix>.models`) has promoted comes
    before `--model`. A changed configuration file is read anew (at once with SIGHUP): what can change
    changes, with all state kept, and the log says what needs a restart. Health and metrics are on `http.port`.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon can read its configuration anew
    settings = settings_from(config, sets)
    configure_logging(settings.logging.level, settings.logging.format)
    import structlog

    for problem in unknown_environment():
        structlog.get_logger().warning("environment", reason=problem)
    from daemon.commands.run import ConfigFile
    from daemon.commands.run import run as serve
    from daemon.model.bundle import Bundle

    bundle = None if model is None else Bundle.load(model)
    try:
        file = ConfigFile(config or DEFAULT_CONFIG, lambda: settings_from(config, sets))
        run_coroutine(serve(settings, bundle, file))
    except DaemonError:
        raise
    except Exception as error:  # to the log, where an operator looks; main ends it with a line
        structlog.get_logger().critical("crashed", exc_info=error)
        raise

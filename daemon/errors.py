"""Every error that reaches an operator, each with its exit code.

A message is one line: the offending value and the rule it breaks. Bad *input records* are
not errors (they become dead letters); these are for what stops a command.
"""

INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended: 128 + SIGINT, as shells count; typer returns it too."""


class DaemonError(Exception):
    """Something failed at run time; exit code 1."""

    exit_code = 1


class UsageError(DaemonError):
    """Wrong usage or configuration; exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value that cannot be used."""


class InputError(UsageError):
    """An input file or topic that cannot be read, or lacks what the command needs."""


class BundleError(UsageError):
    """A model bundle that is damaged, or does not fit the stream it is given to."""


class BrokerError(DaemonError):
    """Kafka cannot be used: unreachable, refused, or a topic is missing."""


class OvertakenError(DaemonError):
    """What this process was about to publish is void: another process, or a person, has decided meanwhile."""


class PointerMovedError(OvertakenError):
    """Another model is in force than when the candidate was compared with one."""


class ConflictError(UsageError):
    """What a wish is about is not there, or is over."""


class NotEnoughData(UsageError):  # noqa: N818 - reads better where it is raised
    """Fewer rows than a model needs."""

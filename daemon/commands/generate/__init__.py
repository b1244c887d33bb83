"""``anomalyd generate``: synthetic assets into a file or a topic, with faults whose truth is known.

Rows are made a few thousand at a time and written as they are made: an hour of 5,000 rows a second needs no
more memory than a second of it. The same arguments give the same bytes; for a topic only the time of sending
differs. The way of a stretch of rows: ``rows`` (drawn from the model, then faults, then gaps), ``messages``
(encoded, in order of arrival), ``files`` or ``topic`` (written). ``request`` and ``generating`` turn the
options into values.
"""

from daemon.commands.generate.files import write_file
from daemon.commands.generate.generating import (
    GenerateOptions,
    Prepared,
    check_held_out,
    generated_as_json,
    prepare,
)
from daemon.commands.generate.messages import MessageLayout
from daemon.commands.generate.request import Generated, Request, condition_of, rate_of, when_ns
from daemon.commands.generate.rows import SyntheticRows
from daemon.commands.generate.topic import TopicTarget, write_topic

__all__ = [
    "GenerateOptions",
    "Generated",
    "MessageLayout",
    "Prepared",
    "Request",
    "SyntheticRows",
    "TopicTarget",
    "check_held_out",
    "condition_of",
    "generated_as_json",
    "prepare",
    "rate_of",
    "when_ns",
    "write_file",
    "write_topic",
]

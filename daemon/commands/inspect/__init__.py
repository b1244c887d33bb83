"""``anomalyd inspect``: the mapping at work on a sample of messages, or the roles of a table's columns.

In: a file or a topic, with a configuration, with a preset, or with neither (then the mapping is derived as ``init``
does). Out: an ``Inspection``: which mapping it is and why, what was extracted of a few records, what became of all,
and of each refusal the reason, the path, an example and the nearest preset. Nothing is written.

File by file: ``inspecting`` (what the sample is), ``mapped`` (which mapping reads it), ``messages`` (what became of them),
``examples`` (a few records), ``tables``; ``inspection`` has the values.
"""

from daemon.commands.inspect.inspecting import inspect_sample
from daemon.commands.inspect.inspection import Example, Inspection, InspectOptions

__all__ = ["Example", "InspectOptions", "Inspection", "inspect_sample"]

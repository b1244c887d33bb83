"""``anomalyd explain``: what a model has learned, as one page and as JSON.

The bundle alone gives the traversals: its drift reference holds mean and variance of the latents over
training. Regimes, the map, KL over time and a sensor's usual range need readings: those of FILE, which go
through the pipeline that judges a stream. The way: ``arguments`` (options as values), ``survey`` (the
readings, encoded), ``analysis`` (what all sections are drawn from), ``dimensions``, ``regimes``,
``over_time``, ``what_if`` (the sections), ``naming`` (names of dimensions and regimes), ``document`` (all of
it), ``explaining`` (the command).
"""

from daemon.commands.explain.arguments import row_of
from daemon.commands.explain.explaining import Explained, ExplainOptions, explain

__all__ = ["ExplainOptions", "Explained", "explain", "row_of"]

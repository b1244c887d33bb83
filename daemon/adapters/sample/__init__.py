"""What a sample of readings tells about its stream, and the configuration that follows from it.

``deriving`` makes the stream, with ``layout`` (fields of JSON objects) and ``period`` (the sampling period);
``config_text`` writes the configuration.
"""

from daemon.adapters.sample.config_text import config_yaml, latents_for, quoted, span
from daemon.adapters.sample.deriving import SAMPLE_LINES, derive_spec, derive_spec_of_topic, names_in
from daemon.adapters.sample.period import infer_period

__all__ = [
    "SAMPLE_LINES",
    "config_yaml",
    "derive_spec",
    "derive_spec_of_topic",
    "infer_period",
    "latents_for",
    "names_in",
    "quoted",
    "span",
]

"""Admission: checks that a bundle passes before anything judges by it, wherever it comes from.

A bundle is data from outside: from a folder, from a topic, from a training on odd rows. One with a NaN
among its weights loads, reports "no evidence" for every window, and leaves the stream unwatched while
everything else looks healthy. So every ``Bundle`` made from bytes passes three checks, which cost
milliseconds:

1. ``read_manifest``: the manifest has the right fields and types, within limits. Nothing is allocated by
   sizes that the manifest merely states.
2. ``check_arrays``, ``check_weights``: each array has the type and shape that the manifest requires, is
   finite, and is positive where it divides.
3. ``check_golden``: a batch of windows made from the bundle's own scaler goes through ``infer`` and
   ``judge``; the results must keep the guarantees of ``daemon.detector.Detector``.
"""

from daemon.model.admission.arrays import check_arrays, check_weights
from daemon.model.admission.golden import check_golden, golden_windows
from daemon.model.admission.manifest import Manifest, read_manifest
from daemon.model.admission.origin import Origin

__all__ = [
    "Manifest",
    "Origin",
    "check_arrays",
    "check_golden",
    "check_weights",
    "golden_windows",
    "read_manifest",
]

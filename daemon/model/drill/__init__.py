"""The fire drill: which faults would be detected, how soon, and from which size on.

A fault is injected into normal rows and judged as the stream would: windows of the rows with the fault in
them, the slow baseline and the alarm machine continuing from their state before it, the asset's own levels,
and the threshold in force. It is *found* when an alert opens while it lasts: by scores within two windows
(after one, all rows that the model sees are faulty; after that the baseline only adapts), or by the
stream's rules (``sensor_stuck``, ``sensor_silent``) within a day. A place is used only if nothing fires
there without the fault, because such an alert would not be due to it.

Sizes form a ladder in standard deviations of the training rows. The *smallest size found* is the lowest
rung from which on, up the ladder, at least 80 % are found. It has an interval of rungs: from the lowest
that may reach 80 % to the lowest that certainly does, each by its Wilson interval (Wilson 1927, 95 %). At
one place the sign, the partner of a swap and the noise are the same on every rung, so that rungs differ by
the size alone.

``trials`` defines what is injected, ``places`` where, ``judge_in_slices`` decides what was found, ``tally`` counts,
and ``drilling`` does all of it over a history. Detectors, baselines and alarm machines that are passed in
are never changed.
"""

from daemon.model.drill.chain import DetectionChain, Rules
from daemon.model.drill.drilling import DrillPlan, drill, seconds, value_of
from daemon.model.drill.judging import Verdict, judge_all, judge_in_slices
from daemon.model.drill.places import WATCHED, Place, places_in, standing
from daemon.model.drill.tally import FOUND, Found, Rung, Tally, wilson
from daemon.model.drill.trials import LADDER, Trial, ladder, trial, varying_sensors

__all__ = [
    "FOUND",
    "LADDER",
    "WATCHED",
    "DetectionChain",
    "DrillPlan",
    "Found",
    "Place",
    "Rules",
    "Rung",
    "Tally",
    "Trial",
    "Verdict",
    "drill",
    "judge_all",
    "judge_in_slices",
    "ladder",
    "places_in",
    "seconds",
    "standing",
    "trial",
    "value_of",
    "varying_sensors",
    "wilson",
]

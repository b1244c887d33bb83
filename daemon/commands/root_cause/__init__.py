"""Why an episode is one: ``explain --alert ID`` and ``explain --at TIME --asset A``.

An alert's ids are pure functions of input and model: the file is replayed through the same pipeline, and its
episodes come out with the ids that were published. The way: ``explaining`` (the command), ``incidents``
(episodes, and the one that an id names), ``tracks`` (rows by asset, scored), ``window`` (repair, verdict and
normal twin of the window that scored highest, by ``model.repair``), ``past`` and ``records`` (what was like
it before).
"""

from daemon.commands.root_cause.explaining import (
    RootCauseOptions,
    explain_alert,
    root_cause,
    worst_explained,
)
from daemon.commands.root_cause.window import explained

__all__ = ["RootCauseOptions", "explain_alert", "explained", "root_cause", "worst_explained"]

"""Imputation: the value of a missing reading, with a 90 % interval.

Live for the newest row of a window (``fill_newest``), in batch for whole segments (``impute_segments``).
``fit`` learns the ``ImputationParameters`` from training data; they are stored in the bundle.

Three estimates (*members*) are made for each missing cell:

1. what the sensor's own readings give: the last value (live), or the line between the readings on both
   sides (batch);
2. the conditional mean of a Gaussian field over sensors and time (``field``);
3. live the window model's reconstruction, with the residual of the last observation carried forward:
   xhat(t) + rho^d (x(t-d) - xhat(t-d)), rho per sensor from the residuals' autocorrelation. It knows
   nonlinear relations, which no covariance shows, but on noisy sensors it follows single readings too
   closely. In batch a second field, with another level variance.

None of these is best everywhere, so the result is their convex mixture, with weights per sensor and
distance to the nearest readings (``mixture``). Weights and intervals come from training cells that are
hidden on purpose, in the ways in which readings are really lost (``fitting``). ``filling`` applies them. In long
gaps of batch the members are those of the readings less the sensors' habits where this is better (``habit``,
``gaps``). No result lies outside of what a sensor can show (``limits``).
"""

from daemon.model.imputation.counting import fill_counter
from daemon.model.imputation.field import NUGGET, REACH
from daemon.model.imputation.filling import LEVELS, Fill, fill_newest, impute_segments
from daemon.model.imputation.fitting import fit
from daemon.model.imputation.habit import MOST_STEPS, WeekClock
from daemon.model.imputation.limits import FEW_VALUES, ValueLimits
from daemon.model.imputation.mixture import BATCH_BUCKETS, BUCKETS, NEVER, Mixture
from daemon.model.imputation.parameters import ImputationParameters

__all__ = [
    "BATCH_BUCKETS",
    "BUCKETS",
    "FEW_VALUES",
    "LEVELS",
    "MOST_STEPS",
    "NEVER",
    "NUGGET",
    "REACH",
    "Fill",
    "ImputationParameters",
    "Mixture",
    "ValueLimits",
    "WeekClock",
    "fill_counter",
    "fill_newest",
    "fit",
    "impute_segments",
]

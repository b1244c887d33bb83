"""Several joint draws of every gap: what the missing readings may have been, together.

A draw of a cell is its imputed value plus an error of the kind that this imputation makes; errors of
neighbouring cells, in time and across sensors, are correlated as the machine's are. The two are joined by a
Gaussian copula (Nelsen 2006; Schefzik, Thorarinsdottir & Gneiting 2013 do so for ensemble forecasts):
``marginals`` gives the distribution of the error of each cell, ``simulation`` the dependence between cells,
``drawing`` combines them.

A sensor that takes few values, again and again, is drawn from these values; no draw leaves the range in
which the sensor was observed, if it was observed often enough.
"""

from daemon.model.draws.drawing import AUXILIARY, Drawn, DrawSettings, GappedSegment, draw
from daemon.model.draws.marginals import DEVIATES, calibrate
from daemon.model.draws.simulation import ErrorPaths

__all__ = [
    "AUXILIARY",
    "DEVIATES",
    "DrawSettings",
    "Drawn",
    "ErrorPaths",
    "GappedSegment",
    "calibrate",
    "draw",
]

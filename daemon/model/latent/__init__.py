"""The latent space of a trained model, in the units of its sensors.

A latent dimension has no unit and no name. Its effect can be shown: decode it at several positions and look
at the sensors (a *traversal*). All functions are pure functions of the models and of windows; only the
starting points of k-means are random, from a fixed seed.

* **Active**: the posterior mean of the dimension varies over the training windows by more than 0.01 (Burda
  et al. 2016; the same rule as ``soundness``). "One sd" is the standard deviation of that posterior mean
  over training, which every bundle stores as its drift reference.
* **Share**: the mean squared change of decoded windows if the dimension is set to its mean, summed over
  cells in scaled units, as a share of the sum over all active dimensions. For a linear model it is exactly
  the variance that the dimension explains.
* **Movement**: half the difference between the windows decoded one sd above and one sd below the reference.
* **Lag**: the rows by which one sensor's movement follows another's, by their cross-correlation.
* **Map** (``projection``): latents weighted by the square root of their share, so that distances are distances
  between what the sensors show; then the two leading principal components, or two latent dimensions
  themselves where they show nearly as much.
* **Regimes**: k-means of the weighted latents; their number by the silhouette (Rousseeuw 1987).
"""

from daemon.model.latent.clusters import (
    MOST_REGIMES,
    Regimes,
    Typical,
    k_means,
    nearest,
    regimes,
    silhouette,
    typical_values,
    usual_hours,
)
from daemon.model.latent.dimensions import (
    STEPS,
    Movement,
    active,
    directions,
    lag,
    moved,
    pattern,
    sample_of,
    shares,
)
from daemon.model.latent.encoding import Encoded, decode, encode
from daemon.model.latent.projection import Plane, plane

__all__ = [
    "MOST_REGIMES",
    "STEPS",
    "Encoded",
    "Movement",
    "Plane",
    "Regimes",
    "Typical",
    "active",
    "decode",
    "directions",
    "encode",
    "k_means",
    "lag",
    "moved",
    "nearest",
    "pattern",
    "plane",
    "regimes",
    "sample_of",
    "shares",
    "silhouette",
    "typical_values",
    "usual_hours",
]

"""Series of bundles without tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.errors import BundleError
from daemon.model import fidelity
from daemon.model.bundle import SYNTHESIS, Bundle
from tests.model.conftest import machine
from tests.model.synthesis.conftest import rows_of


def old(bundle: Bundle) -> Bundle:
    """The bundle as it was before it kept how series go on."""
    return replace(bundle, extras={k: v for k, v in bundle.extras.items() if not k.startswith(SYNTHESIS)})


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_an_old_bundle_draws_from_its_prior(kind: str, bundles: Callable[[str], Bundle]) -> None:
    before = old(bundles(kind))
    made = rows_of(before, 20, 200)
    assert np.isfinite(np.concatenate(made)).all()
    assert 0.7 < fidelity.seam(made, 8) < 1.4
    spread = np.concatenate(made)[:, :3].std(0) / machine(1_500)[:, :3].std(0)
    assert (spread > 0.5).all()
    assert (spread < 1.5).all()
    with pytest.raises(BundleError, match="train it anew"):
        before.series(1, like="pump-1")

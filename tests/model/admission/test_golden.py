"""A model must judge the golden batch."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import Segment
from daemon.errors import BundleError
from daemon.model.admission import golden_windows
from daemon.model.bundle import Bundle
from tests.model.admission.conftest import parts, put_together
from tests.model.conftest import dropped, machine, trained


def test_a_model_whose_finite_weights_overflow_fails_on_the_golden_batch(bundle: Bundle) -> None:
    manifest, arrays = parts(bundle)
    for name in ("vae.output.weight", "vae.encoder.0.values", "pca.4.basis", "pca.16.mean"):
        huge = np.full_like(arrays[name], 3e38)
        with pytest.raises(BundleError, match="fails on usual windows"):
            Bundle.from_bytes(put_together(manifest, {**arrays, name: huge}))


def test_the_golden_batch_meets_every_condition_and_what_was_never_seen(bundle: Bundle) -> None:
    values, labels, scorable = golden_windows(bundle.detector(), bundle.models.scaler.seen)
    assert set(bundle.conditions) < set(labels)
    assert np.isnan(values).any()
    assert np.isfinite(values).all((1, 2)).any()
    assert not scorable.all()


def test_legitimate_bundles_of_odd_rows_are_admitted() -> None:
    unseen, rare = machine(900), machine(900)
    unseen[:, 0] = np.nan
    rare[:, 1] = np.where(np.arange(900) % 100 == 0, 5.0, np.nan)
    modes = tuple("ab"[i // 300 % 2] for i in range(900))
    for values, changes, labels in [
        (unseen, {}, ()),
        (rare, {}, ()),
        (np.full((900, 4), 7.0), {}, ()),
        (machine(900) * 1e-300, {}, ()),
        (dropped(machine(900), 0.3), {}, ()),
        (machine(900)[:, :1], {"sensors": ("Pressure",)}, ()),
        (machine(900), {"condition": ("mode",)}, modes),
    ]:
        made = trained([Segment("pump-1", 1_000, values, labels)], **changes)
        assert Bundle.from_bytes(made.to_bytes()).version == made.version

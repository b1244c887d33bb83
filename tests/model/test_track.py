"""A track scores rows as the stream does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from daemon.model.bundle import Bundle
from daemon.model.repair import (
    scored,
)
from daemon.model.track import Track
from tests.model.conftest import machine
from tests.model.repair.conftest import FAULT, ROWS, shift, track_of


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_a_view_scores_as_its_window_did(kind: str, bundles: Callable[[str], Bundle]) -> None:
    detector = bundles(kind).detector()
    track = track_of(detector, shift((0,), 3.0))
    assert len(track.at) == ROWS - detector.window + 1
    for row in (FAULT - 100, FAULT, FAULT + 7, ROWS - 1):
        index = track.index_at(track.first_row + row)
        assert index is not None
        view = track.view(index)
        again = scored(detector, view, view.values[None]).score[0]
        assert again == pytest.approx(track.verdicts.score[index], rel=1e-6)
        np.testing.assert_array_equal(view.values[-1], track.values[row])


def test_a_track_maps_windows_to_rows(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = Track.of(detector, "pump-1", 7, machine(100, seed=7), hop=4)
    assert all(track.row(i) % 4 == 0 for i in range(len(track.at)))
    assert track.index_at(track.row(3)) == 3
    assert track.index_at(track.row(3) + 1) is None
    assert track.index_from(track.row(3) + 1) == 4
    with pytest.raises(ValueError, match="hold no window"):
        Track.of(detector, "pump-1", 0, machine(detector.window - 1))

"""A share of one CPU: granted as time passes, spent by work, never saved without bound."""

from __future__ import annotations

import pytest

from daemon.runtime.cpu_share import LEAST_SLICE_S, MOST_SAVED_S, CpuShare


class Clocks:
    """Wall time and CPU time that a test sets."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def share(self, share: float) -> CpuShare:
        return CpuShare(share, lambda: self.cpu_s, lambda: self.wall_s)


def test_time_grants_in_proportion_to_the_share() -> None:
    clocks = Clocks()
    share = clocks.share(0.01)
    assert not share.allows(0.0)
    clocks.wall_s = 10.0
    assert share.allows(0.099)
    assert not share.allows(0.101)


def test_no_more_is_saved_up_than_the_bound() -> None:
    clocks = Clocks()
    share = clocks.share(0.5)
    clocks.wall_s = 1e6
    assert share.allows(MOST_SAVED_S - 1e-9)
    assert not share.allows(MOST_SAVED_S)


def test_work_is_paid_for_even_if_it_raises() -> None:
    clocks = Clocks()
    share = clocks.share(0.5)
    clocks.wall_s = 1.0
    assert share.allows(0.0)

    def fail() -> None:
        with share.spending():
            clocks.cpu_s = 0.75
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert share.spent_s == 0.75
    assert not share.allows(0.0)
    clocks.wall_s = 2.1  # half a second was owed
    assert share.allows(0.0)


def test_a_slice_is_allowed_once_the_cost_of_the_last_one_is_granted() -> None:
    clocks = Clocks()
    share = clocks.share(0.1)
    clocks.wall_s = 1.01 * LEAST_SLICE_S / 0.1
    assert share.allows_slice()
    with share.slicing():
        clocks.cpu_s = 0.1
    clocks.wall_s += 1.9  # what was owed, and nearly one more slice
    assert not share.allows_slice()
    clocks.wall_s += 0.2
    assert share.allows_slice()


def test_what_was_granted_without_work_is_forfeited_and_a_debt_is_not() -> None:
    clocks = Clocks()
    share = clocks.share(0.1)
    clocks.wall_s = 1.0
    assert share.allows(0.0)
    share.forfeit()
    assert not share.allows(0.0)
    with share.spending():
        clocks.cpu_s = 1.0
    share.forfeit()
    clocks.wall_s += 9.0
    assert not share.allows(0.0)

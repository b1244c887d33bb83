"""A sentence about a model says no more than its figures do."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.adapters.wording import beta_text, decimals, movement_text, number, regime_text
from daemon.model.latent import Movement, Typical


def moved(
    sensor: int, change: float, unit_sd: float, pattern: str = "level", lag: int | None = None
) -> Movement:
    return Movement(sensor, change, -change, change, unit_sd, pattern, lag)


def test_a_sentence_says_what_moves_how_and_when() -> None:
    names, places = ("Power", "Flow ", "Valve", "Idle"), (1, 0, 2, 0)
    text = movement_text(
        [moved(0, 2.04, 1.0), moved(2, -0.5, 0.8, "trend", 2), moved(1, 30, 0.5, "shape"), moved(3, 1, 0.1)],
        names, places, 30.0,
    )  # fmt: skip
    assert text == (
        "Power higher by 2; Valve falling by 1 within the window; another course of Flow. Valve follows Power by 60 s."
    )
    assert movement_text([moved(0, 0.1, 0.01)], names, places, 30.0) == "Hardly moves any sensor."


def test_a_regime_is_one_sentence() -> None:
    notable = [
        Typical(0, 2.0, 9.0, -2.0, "low"),
        Typical(1, 0.0, 50.0, -1.9, "near 0"),
        Typical(2, -3.0, 0.0, -1.0, "falling"),
    ]
    text = regime_text(notable, ("Power", "Flow", "Valve"), (1, 0, 1), 0.31, (22, 6))
    assert text == "Power low (2), Flow at 0, Valve falling (by 3): 31 % of the time, mostly 22–06 h UTC"
    assert regime_text([], (), (), 1.0, None) == "Every sensor near its overall mean: 100 % of the time"


@pytest.mark.parametrize(
    ("value", "sd", "expected"),
    [
        (25.9613, 0.03, "25.961"),
        (1234567.8, 4e4, "1,234,568"),
        (0.0, 1.0, "0"),
        (-0.001, 1.0, "0"),
        (1e-9, 1e-9, "1e-09"),
        (40.0, 3.0, "40"),
    ],
)
def test_a_number_has_the_decimals_that_its_spread_deserves(value: float, sd: float, expected: str) -> None:
    assert number(value, decimals(sd)) == expected


def test_the_reason_for_beta_follows_from_the_figures() -> None:
    def point(beta: float, elbo: float, telling: int = 8) -> dict[str, Any]:
        return {
            "beta": beta,
            "elbo": elbo,
            "telling_units": telling,
            "reconstruction": 0.2,
            "kl": 9.0,
            "purity": 0.1,
        }

    assert "the best of the sweep" in beta_text([point(0.5, 0.1), point(1, 0.2), point(2, 0.1)], [])
    sides = [point(0.5, 0.25), point(1, 0.2), point(2, 0.1)]
    assert "no reason to depart from it" in beta_text(sides, [point(1, 0.15), point(1, 0.3)])
    assert "model.beta=0.5 fits better" in beta_text(sides, [point(1, 0.15), point(1, 0.22)])
    better = beta_text([point(0.5, 0.1), point(1, -0.2), point(2, 0.6, 3)], [])
    assert "model.beta=2 fits better" in better
    assert "−0.200 nats" in better
    assert "3 are left at 2" in better

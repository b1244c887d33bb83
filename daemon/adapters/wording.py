"""Sentences about a model for readers who know the plant, but not the statistics.

In: figures of ``model.latent`` and ``model.sweep``, sensor names, and how many decimals each sensor's values
have. Out: text for the page and for ``--json``; the same figures give the same text. The numbers in these texts
are rounded here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from daemon.model import latent

NAMED = 4
"""Sensors that a sentence names, at most: as many as a reader remembers."""
WORTH_PURITY = 0.05
"""Least mutual information gap that is mentioned: three seeds differed by up to .03 at the same beta."""
HARDLY = 0.05
"""Movement, in a sensor's sd per sd of the dimension, below which a sensor is not mentioned."""
ALONG = 0.3
"""Least movement of a sensor that is named, as a share of the largest movement."""


def movement_text(
    movements: Sequence[latent.Movement], sensors: Sequence[str], places: Sequence[int], period: float
) -> str:
    """What the sensors do when a dimension moves up by one sd.

    Args:
        movements: of all sensors, the most moved first.
        sensors: their names.
        places: decimals of each sensor's values.
        period: of the rows, seconds.
    """
    if not movements or movements[0].unit_sd < HARDLY:
        return "Hardly moves any sensor."
    moved = [m for m in movements if m.unit_sd >= max(HARDLY, ALONG * movements[0].unit_sd)]
    named = moved[:NAMED]
    level, trend, course = [], [], []
    for m in named:
        name = sensors[m.sensor].strip()
        if m.pattern == "level":
            way = "higher" if m.change > 0 else "lower"
            level.append(f"{name} {way} by {number(abs(m.change), places[m.sensor])}")
        elif m.pattern == "trend":
            rise = m.last - m.first
            way = "rising" if rise > 0 else "falling"
            trend.append(f"{name} {way} by {number(abs(rise), places[m.sensor])}")
        else:
            course.append(name)
    parts = [listed(level)] if level else []
    if trend:
        parts.append(listed(trend) + " within the window")
    if course:
        parts.append(("another course of " if parts else "Another course of ") + listed(course))
    text = "; ".join(parts)
    if len(moved) > len(named):
        text += f"; and {len(moved) - len(named)} more sensors"
    text += "."
    first = sensors[movements[0].sensor].strip()
    for m in [m for m in named if m.lag][:2]:
        assert m.lag is not None
        way = "follows" if m.lag > 0 else "comes before"
        text += f" {sensors[m.sensor].strip()} {way} {first} by {lasting(abs(m.lag) * period)}."
    return text


def regime_text(
    notable: Sequence[latent.Typical],
    sensors: Sequence[str],
    places: Sequence[int],
    share: float,
    hours: tuple[int, int] | None,
) -> str:
    """A regime as a sentence: notable sensors, share of the time, usual hours; see ``movement_text``."""
    parts = []
    for t in notable[:NAMED]:
        value = number(abs(t.value) if t.course else t.value, places[t.sensor])
        what = (
            "at 0"
            if t.word == "near 0" and value == "0"
            else f"{t.word} ({'by ' if t.course else ''}{value})"
        )
        parts.append(f"{sensors[t.sensor].strip()} {what}")
    text = ", ".join(parts) if parts else "Every sensor near its overall mean"
    text += f": {percent(share)} of the time"
    if hours is not None:
        text += f", mostly {hours[0]:02d}–{hours[1]:02d} h UTC"
    return text


def beta_text(points: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]) -> str:
    """Why beta is 1 by default, from the figures of a sweep.

    Args:
        points: one per beta, ascending, one of them at 1.
        again: at beta 1 with other seeds.
    """
    one = min(points, key=lambda p: abs(p["beta"] - 1.0))
    best = max(points, key=lambda p: p["elbo"])
    low, high = points[0], points[-1]
    seeds = [p["elbo"] for p in (one, *again)]
    text = (
        "The default is 1, because training then maximises the likelihood bound (ELBO) itself, in which error and KL"
        f" have one unit and nothing is left to tune. On readings held back the bound is {nats(one['elbo'])} nats per"
        " reading at 1"
    )
    if again:
        text += f" ({nats(min(seeds))} to {nats(max(seeds))} with other seeds)"
    if best is one:
        text += ", the best of the sweep."
    elif best["elbo"] <= max(seeds):
        text += (
            f" and at its best, {nats(best['elbo'])}, at {best['beta']:g}: no more than another seed gives at 1, so"
            " there is no reason to depart from it."
        )
    else:
        text += (
            f" and at its best, {nats(best['elbo'])}, at {best['beta']:g}: {best['elbo'] - max(seeds):.3f} more than"
            f" any seed gives at 1. On these readings model.beta={best['beta']:g} fits better; whether it also finds"
            " more, replay with --label says. (Of four data sets that were measured two did best below 1 and two above.)"
        )
    text += (
        f" At {low['beta']:g} the error is {relative(low['reconstruction'], one['reconstruction'])} and the KL"
        f" {relative(low['kl'], one['kl'])}; at {high['beta']:g} the error is"
        f" {relative(high['reconstruction'], one['reconstruction'])} and the KL {relative(high['kl'], one['kl'])}."
    )
    fewest = min(points, key=lambda p: (p["telling_units"], abs(p["beta"] - 1.0)))
    if fewest["telling_units"] < one["telling_units"]:
        text += (
            f" Of {one['telling_units']} dimensions that tell something at 1,"
            f" {fewest['telling_units']} are left at {fewest['beta']:g}."
        )
    else:
        text += (
            f" All {one['telling_units']} dimensions that tell something at 1 still do at {high['beta']:g}."
        )
    pure = [p for p in points if p["purity"] is not None]
    if pure and one["purity"] is not None:
        purest = max(pure, key=lambda p: p["purity"])
        if purest["purity"] - one["purity"] < WORTH_PURITY:
            text += f" No beta separates factors better to speak of (purity {one['purity']:.3f} at 1)."
        else:
            text += f" Purity is {one['purity']:.3f} at 1 and {purest['purity']:.3f} at {purest['beta']:g}."
    return text


def relative(value: float, base: float) -> str:
    """How far a figure is from another, as a percentage with its direction."""
    change = value / base - 1.0 if base else 0.0
    if abs(change) < 0.005:
        return "the same"
    return f"{abs(change):.0%} {'higher' if change > 0 else 'lower'}"


def nats(value: float) -> str:
    """A likelihood in nats, with a typographic minus."""
    return f"{value:.3f}".replace("-", "−")


def listed(parts: Sequence[str]) -> str:
    """A list in a sentence: ``one, two and three``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def decimals(sd: float) -> int:
    """Decimals of a sensor's values: enough to show a tenth of its sd."""
    return int(min(max(1 - math.floor(math.log10(sd)), 0), 12)) if sd > 0 else 0


def number(value: float, places: int) -> str:
    """A sensor's value, without trailing zeros; in scientific notation above six decimals."""
    if places > 6:
        return f"{value:.3g}"
    text = f"{value:,.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def percent(share: float) -> str:
    """A share in whole percent."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"


def lasting(seconds: float) -> str:
    """A duration in seconds, minutes or hours, with three digits."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7_200 else f"{seconds / 3_600:.3g} h"

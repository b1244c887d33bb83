"""One explanation as the JSON document that the page is filled from: sentences and figures as they are read.

Every number that people read is a text here already, with as many digits as its sensor's range deserves; only
the lengths of bars are numbers. The charts are documents of their own (``figures``).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from daemon.adapters.root_cause_page.figures import WINDOW_SENSORS
from daemon.adapters.root_cause_page.wording import (
    CAUSES,
    certainty,
    clock,
    consequence,
    headline,
    lasted,
    shown,
)
from daemon.model.root_cause import RootCause

BARS: Final = 10
"""Sensors in the chart of contributions."""


def root_cause_document(found: RootCause) -> dict[str, Any]:
    """Everything on the page but its charts."""
    cause, incident = found.verdict.cause, found.incident
    at = found.times_ns[found.window]
    return {
        "asset": found.asset,
        "cause": None if cause is None else CAUSES[cause] + ("" if found.certain else "?"),
        "certain": found.certain,
        "headline": headline(found),
        "consequence": consequence(found),
        "evidence": found.evidence(),
        "certainty": None if cause is None else certainty(cause, found.certain),
        "tiles": [_since(found), _score(found), _repair(found)],
        "readings": [_reading(found, c) for c in found.repair.sensors[:WINDOW_SENSORS]],
        "blame": _blame(found),
        "nearest": [
            {
                "when": clock(n.onset_ns),
                "asset": n.asset,
                "likeness": _percent(max(n.likeness, 0.0)),
                "sensors": ", ".join(n.sensors),
                "feedback": ": ".join(part for part in (n.verdict, n.note) if part),
            }
            for n in found.nearest
        ],
        "window": f"{clock(int(at[0]))} to {clock(int(at[-1]))}",
        "identity": None
        if incident is None
        else f"Episode {incident.fingerprint}, alert {incident.ids[0]}, model {found.model}.",
        "notes": list(found.notes),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _tile(what: str, big: str, small: str, bad: bool = False) -> dict[str, Any]:
    return {"what": what, "big": big, "small": small, "bad": bad}


def _since(found: RootCause) -> dict[str, Any]:
    incident = found.incident
    if incident is None:
        until = f"the window of {len(found.reconstruction)} rows up to {clock(found.row_ns)}; in no episode"
    else:
        span = lasted(max(incident.last_ns - incident.onset_ns, found.period_ns))
        until = (
            f"for {span}, until {clock(incident.last_ns)}"
            if incident.closed
            else f"for {span} so far, still open"
        )
    return _tile("Since", clock(found.since_ns), until + " (UTC)", found.verdict.cause is not None)


def _score(found: RootCause) -> dict[str, Any]:
    where = f"at its peak, {clock(found.row_ns)}; an alarm is above {found.threshold:.2f}"
    return _tile("Score", f"{found.repair.before:.2f}", where)


def _repair(found: RootCause) -> dict[str, Any]:
    repair, what = found.repair, "Smallest repair"
    if found.verdict.cause is None:
        return _tile(what, "none needed", f"score {repair.before:.2f}, normal up to {repair.level:.2f}")
    if not repair.enough:
        return _tile(what, "none", "no sensors were found without which it is normal", bad=True)
    how = "no smaller set does" if repair.exact else f"at least {repair.fewest} are needed"
    them = "it" if len(repair.sensors) == 1 else "them"
    return _tile(
        what,
        f"{len(repair.sensors)} of {len(found.sensors)} sensors",
        f"without {them} the score falls from {repair.before:.2f} to {repair.after:.2f}; {how}",
    )


def _reading(found: RootCause, c: int) -> dict[str, str]:
    like = found.observed[:, c]
    observed, twin, low, high = found.reading(c)
    return {
        "sensor": found.sensors[c],
        "read": shown(observed, like),
        "expected": shown(twin, like),
        "interval": f"{shown(low, like)} to {shown(high, like)}",
        "share": _percent(float(found.shares[c])),
    }


def _blame(found: RootCause) -> list[dict[str, Any]]:
    ranked = [c for c in np.argsort(-found.shares, kind="stable")[:BARS].tolist() if found.shares[c] > 0]
    most = max([float(found.shares[c]) for c in ranked], default=1.0)
    return [
        {
            "sensor": found.sensors[c],
            "share": _percent(float(found.shares[c])),
            "length": round(float(found.shares[c]) / most, 3),
            "repaired": c in found.repair.sensors,
        }
        for c in ranked
    ]

"""What a bundle states about its stream, and whether it can judge another one.

A bundle was trained for fixed sensors, a period, a window length and a hop; a stream with others cannot use it.
Its ``facts`` come from a file or a topic, so that each is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.assembly import alert_rules, assembled
from daemon.budget import Budget
from daemon.domain import StreamSpec
from daemon.errors import BundleError
from daemon.mapping import Component
from daemon.model.bundle import Bundle


def learned_until_ns(bundle: Bundle) -> int | None:
    """Event time of the newest row that a bundle was trained on; None if unknown."""
    return event_time_in(bundle.facts, "newest_ns")


def event_time_in(facts: Mapping[str, object], name: str) -> int | None:
    """An event time among a bundle's facts, in ns; None if there is none, or if its value is no date."""
    found = facts.get(name)
    # Up to 9999-12-31: the value of a damaged or foreign bundle must still be a date.
    return found if type(found) is int and 0 <= found < 253_402_300_800 * 10**9 else None


def trained_hop(bundle: Bundle) -> int | None:
    """Rows from one measured window to the next in a bundle's training; None if unknown."""
    found = bundle.facts.get("hop")
    return found if type(found) is int else None


def sensor_sections(bundle: Bundle) -> dict[str, dict[str, object]]:
    """The sensors of a bundle's stream as the configuration names them, with how values and rows are made."""
    made, read, rules = _assembled(bundle), _by_sensor(bundle, "read_as"), _by_sensor(bundle, "alert_rules")
    of = {f"{name}.{part}": name for name, rule in made.items() if "angle" in rule for part in Component}
    names = dict.fromkeys(of.get(name, name) for name in bundle.sensors)
    rules = {of.get(name, name): rule for name, rule in rules.items()}
    return {name: read.get(name, {}) | made.get(name, {}) | rules.get(name, {}) for name in names}


def missing_numbers(bundle: Bundle) -> dict[str, list[float]]:
    """By sensor, the numbers that stood for no value in what the bundle was trained on."""
    found = {name: rule.get("missing") for name, rule in _by_sensor(bundle, "read_as").items()}
    return {name: numbers for name, numbers in found.items() if isinstance(numbers, list)}


def _assembled(bundle: Bundle) -> dict[str, dict[str, object]]:
    """``assembled`` of a bundle's stream."""
    return _by_sensor(bundle, "assembled")


def _by_sensor(bundle: Bundle, name: str) -> dict[str, dict[str, object]]:
    """Settings by sensor among a bundle's facts; what is no mapping of mappings is left out."""
    found = bundle.facts.get(name)
    if not isinstance(found, Mapping):
        return {}
    return {str(name): dict(rule) for name, rule in found.items() if isinstance(rule, Mapping)}


def _counters(assembled: Mapping[str, Mapping[str, object]]) -> str:
    return f"[{', '.join(sorted(name for name, rule in assembled.items() if rule.get('counter')))}]"


def _stated(rules: Mapping[str, Mapping[str, object]]) -> str:
    """Rules of sensors in one line, in the order of names: a bundle that was read has them in that one."""
    each = (
        f"{name}: {key} {value}"
        for name, rule in sorted(rules.items())
        for key, value in sorted(rule.items())
    )
    return f"({', '.join(each)})"


def check_compatible(bundle: Bundle, spec: StreamSpec) -> None:
    """Refuse a bundle that was made for another stream.

    Raises:
        BundleError: sensors, counters, alert rules, period, window or hop differ.
    """
    for what, theirs, ours in (
        ("sensors", bundle.sensors, spec.sensors),
        ("counters", _counters(_assembled(bundle)), _counters(assembled(spec))),
        ("alert rules", _stated(_by_sensor(bundle, "alert_rules")), _stated(alert_rules(spec))),
        ("period", f"{bundle.period_ns / 1e9:g} s", f"{spec.period_ns / 1e9:g} s"),
        ("window", bundle.window, spec.window),
        ("hop", trained_hop(bundle) or spec.hop, spec.hop),
    ):
        if theirs != ours:
            reason = f"its {what} {theirs}, the stream's {ours}"
            if what == "sensors" and sorted(bundle.sensors) == sorted(spec.sensors):
                reason = "it has the same sensors in another order; list them in the stream as the model does"
                reason += f": {', '.join(bundle.sensors)}"
            if what in ("alert rules", "hop"):
                reason += f"; its thresholds were found with {'them' if what == 'alert rules' else 'it'}: train anew"
            raise BundleError(f"model {bundle.version} does not fit stream {spec.name}: {reason}")


def other_budgets(bundle: Bundle, budget: Budget, deviation_budget: Budget | None) -> str:
    """What becomes of a model's thresholds where the stream's budgets are not those of its training; empty if they are."""
    searches = (bundle.calibration.search, None if bundle.sustained is None else bundle.sustained.search)
    found = []
    for what, key, search, ours in (
        ("thresholds", "calibration.budget", searches[0], budget),
        ("limits of deviations", "alerts.deviation_budget", searches[1], deviation_budget),
    ):
        if search is None or search.budget == ours:
            continue
        if ours is None:
            found.append(f"{key} is null, and deviations are looked for until the next training")
        else:
            found.append(f"{what} found again for {key} {ours}; it was trained for {search.budget}")
    return "; ".join(found)


def other_conditions(bundle: Bundle, spec: StreamSpec) -> str:
    """How a model's condition fields differ from the stream's; empty if they are the same.

    It is used nevertheless: all rows are scored as of an unknown condition until the next training.
    """
    theirs = bundle.facts.get("condition")
    if theirs is None or list(theirs) == list(spec.condition):
        return ""  # bundles of earlier versions do not record them
    ours = f"[{', '.join(spec.condition)}]"
    return f"it learned condition [{', '.join(theirs)}], the stream has {ours}: rows are scored as unknown"

"""What a bundle states about its stream, and whether it can judge another one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from daemon.assembly import alert_rules, assembled
from daemon.domain import SECOND_NS
from daemon.errors import BundleError
from daemon.mapping import AlertRule, SensorRule
from daemon.runtime.compatibility import (
    check_compatible,
    event_time_in,
    missing_numbers,
    other_conditions,
    sensor_sections,
)
from tests.runtime.scripted import SPEC, trained_bundle


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"window": 5}, "its window 4, the stream's 5"),
        ({"hop": 2}, "its hop 1, the stream's 2; its thresholds were found with it: train anew"),
        ({"period_ns": 2 * SECOND_NS}, "its period 1 s, the stream's 2 s"),
        ({"sensors": ("b", "a")}, "list them in the stream as the model does: a, b"),
        ({"sensors": ("a", "c")}, "its sensors"),
        (
            {"sensor_rules": (SensorRule(alert=AlertRule(ignore=True)), SensorRule())},
            r"its alert rules \(\), the stream's \(a: ignore True\); its thresholds .* train anew",
        ),
    ],
)
def test_a_bundle_of_another_stream_is_not_compatible(changes: dict[str, Any], what: str) -> None:
    check_compatible(trained_bundle(), SPEC)
    with pytest.raises(BundleError, match=what):
        check_compatible(trained_bundle(), replace(SPEC, **changes))


def test_a_bundle_that_was_read_fits_its_stream_in_whatever_order_the_sensors_are() -> None:
    rule = SensorRule(counter=True, alert=AlertRule(ignore=True))
    spec = replace(SPEC, sensors=("b", "a"), sensor_rules=(rule, rule))
    stated = {"alert_rules": alert_rules(spec), "assembled": assembled(spec)}
    read = json.loads(json.dumps(stated, sort_keys=True))  # as ``Bundle.to_bytes`` writes them
    facts = trained_bundle().facts | read
    check_compatible(replace(trained_bundle(), sensors=spec.sensors, facts=facts), spec)


@pytest.mark.parametrize("found", [None, "yesterday", -1, 1 << 70, True, 1.5])
def test_an_event_time_that_is_no_date_counts_as_unknown(found: object) -> None:
    assert event_time_in({"newest_ns": found}, "newest_ns") is None
    assert event_time_in({"newest_ns": 5}, "newest_ns") == 5
    assert event_time_in({}, "newest_ns") is None


def test_other_condition_fields_are_described_and_no_reason_to_refuse() -> None:
    facts = trained_bundle().facts
    assert other_conditions(trained_bundle(), SPEC) == ""
    bundle = replace(trained_bundle(), facts={**facts, "condition": ["product"]})
    check_compatible(bundle, SPEC)
    assert "it learned condition [product], the stream has []" in other_conditions(bundle, SPEC)
    older = replace(bundle, facts={k: v for k, v in facts.items() if k != "condition"})
    assert other_conditions(older, SPEC) == ""


def test_the_sensors_of_a_bundle_have_the_rules_that_it_was_trained_with() -> None:
    read = {"a": {"missing": [-999.0], "scale": 0.1}, "b": "damaged"}
    facts = {**trained_bundle().facts, "read_as": read, "assembled": {"a": {"counter": True}}}
    bundle = replace(trained_bundle(), facts=facts)
    assert sensor_sections(bundle) == {"a": {"missing": [-999.0], "scale": 0.1, "counter": True}, "b": {}}
    assert missing_numbers(bundle) == {"a": [-999.0]}
    rules = {"b": {"direction": "above", "min_deviation": "5%"}}
    assert sensor_sections(replace(bundle, facts={"alert_rules": rules})) == {"a": {}, **rules}
    assert sensor_sections(trained_bundle()) == {"a": {}, "b": {}}

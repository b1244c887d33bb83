"""``anomalyd maintenance``: what is told to a running daemon on real Kafka, and what cannot be told."""

from __future__ import annotations

import json
import math
import re
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from daemon.commands.known_assets import unknown_lines
from daemon.commands.maintenance import assets_of, entry, named, shortened
from daemon.control import MaintenanceOrder, read_control, written
from daemon.errors import UsageError
from daemon.maintenance import MaintenanceWindow, ns_of
from tests.commands.talking import Talking
from tests.running import command, messages

BEGIN_S = 1_764_397_200
START = "2025-11-29T06:25:00Z"  # the 300th second


def lines(first: int, end: int, fault: range = range(0)) -> list[bytes]:
    """Readings of two pumps that swing together; the first one's temperature is off in ``fault``."""
    return [
        json.dumps(
            {
                "asset": f"pump-{asset}",
                "ts": BEGIN_S + row,
                "values": {
                    "temperature": 80 + math.sin(row / 7 + asset) + 20 * (asset == 1 and row in fault),
                    "pressure": 4 + math.cos(row / 7 + asset) / 10,
                },
            }
        ).encode()
        for row in range(first, end)
        for asset in (1, 2)
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["2h"], "name the assets before the duration"),
        (["pump-1", "--all", "2h"], "name the assets before the duration"),
        (["", "2h"], "an asset has no name"),
        (["pump-1", " , ", "2h"], "an asset has no name"),
        (["pump-1", "soon"], "'soon' is not a duration"),
        (["pump-1", "0s"], "longer than nothing"),
        (["pump-1", "2h", "--start", "2026-01-31T08:00:00"], "needs a time zone"),
        (["pump-1", "2h", "--start", "tomorrow"], "tomorrow"),
        (["pump-1", "2h", "--rrule", "EVERY SUNDAY"], "FREQ=WEEKLY;BYDAY=SU"),
        (["pump-1", "2h", "--rrule", "FREQ=DAILY", "--tz", "Mars/Olympus"], "no time zone"),
        (["pump-1", "2h", "--tz", "Mars"], "'Mars' is no time zone"),
    ],
)
def test_a_stop_that_cannot_be_planned_is_refused_before_any_broker(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    done = command("maintenance", "add", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert why in done.stderr


@pytest.mark.parametrize(
    ("words", "assets"),
    [
        (["b", "a"], ("a", "b")),
        (["a,b"], ("a", "b")),
        (["b,", " a "], ("a", "b")),
        (["a", "a, ,b"], ("a", "b")),
        ([], ()),
    ],
)
def test_assets_are_named_with_blanks_or_commas_between(words: list[str], assets: tuple[str, ...]) -> None:
    assert assets_of(words) == assets


def test_a_name_that_is_made_is_of_one_stop_alone() -> None:
    start = datetime(2026, 3, 2, 6, tzinfo=UTC)
    first = MaintenanceOrder("", start, start + timedelta(hours=8), ("a", "b", "c"))
    others = [
        {"end": start + timedelta(minutes=30)},
        {"start": start + timedelta(seconds=1)},
        {"assets": ("a", "b", "c", "d")},
        {"assets": ()},
        {"assets": ("all",)},
        {"stream": "s"},
        {"rrule": "FREQ=DAILY"},
        {"timezone": "Europe/Berlin"},
    ]
    stops = [first, *(msgspec.structs.replace(first, **each) for each in others)]
    names = [named(stop).maintenance for stop in stops]
    assert len(set(names)) == len(names)
    assert re.fullmatch(r"a\+b\+c-20260302T0600-[0-9a-f]{4}", names[0])
    assert names[4].startswith("all-20260302T0600-")
    # Said again, with another reason, by another person: it is the same stop.
    assert named(msgspec.structs.replace(first, reason="oil", by="kim")).maintenance == names[0]
    long = msgspec.structs.replace(first, assets=("a" * 600, "b" * 600))
    assert len(named(long).maintenance) < 300


def test_a_name_of_the_configuration_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "streams: [{name: s, topics: [t], sensors: [a]}]\n"
        "alerts: {maintenance: [{name: oil, start: 2026-03-02T06:00:00Z, end: 2026-03-02T08:00:00Z}]}\n"
    )
    done = command("maintenance", "add", "pump-1", "2h", "--name", "oil", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'oil' is of the configuration (alerts.maintenance)" in done.stderr


@pytest.mark.parametrize(
    ("rule", "now_h", "messages"),
    [
        ("", -5, 1),
        ("", 0.5, 1),
        ("FREQ=DAILY", -5, 1),
        ("FREQ=DAILY", 1, 1),
        ("FREQ=DAILY", 12, 1),
        ("RRULE:FREQ=DAILY", 49.5, 2),
        ("FREQ=DAILY;COUNT=5", 49.5, 2),
        ("UNTIL=20260401T000000Z;FREQ=DAILY", 36, 1),
        ("FREQ=DAILY;COUNT=3", 49.5, 2),
    ],
)
def test_a_stop_that_ends_now_was_until_now_what_it_was(rule: str, now_h: float, messages: int) -> None:
    start = datetime(2026, 3, 2, 6, tzinfo=UTC)
    now = start + timedelta(hours=now_h)
    order = MaintenanceOrder("oil", start, start + timedelta(hours=2), ("a",), "s", rule, "Europe/Berlin")
    new = shortened(order, now, "kim")
    assert (len(new), new[-1].maintenance) == (messages, "oil")
    assert {(each.assets, each.stream, each.by) for each in new} == {(("a",), "s", "kim")}
    was, windows = MaintenanceWindow.ordered(order), [MaintenanceWindow.ordered(each) for each in new]
    for quarter in range(-40, 400):
        time = start + timedelta(hours=quarter / 4)
        covered = any(one.at(ns_of(time)) is not None for one in windows)
        assert covered is (time < now and was.at(ns_of(time)) is not None), time
    assert all(read_control(written(each)) == each and named(each) for each in new if each.end > each.start)
    for each in new:
        with pytest.raises(UsageError, match="is over since 2026-03-"):
            shortened(each, now)


@pytest.mark.parametrize(
    ("rule", "since"), [("", "2026-03-02T08:00:00Z"), ("FREQ=DAILY;COUNT=3", "2026-03-04T08:00:00Z")]
)
def test_a_stop_that_is_over_is_not_ended_again(rule: str, since: str) -> None:
    start = datetime(2026, 3, 2, 6, tzinfo=UTC)
    order = MaintenanceOrder("oil", start, start + timedelta(hours=2), rrule=rule)
    with pytest.raises(UsageError, match=f"'oil' is over since {since}"):
        shortened(order, start + timedelta(hours=50))


@pytest.mark.parametrize(
    ("assets", "known", "lines"),
    [
        (["a"], {"a", "b"}, []),
        ([], set(), []),
        (["press-9"], set(), ["no asset press-9 is known so far: none is. It is planned all the same"]),
        (["Press-9", "a"], {"a", "press-1"}, ["no asset Press-9 is known so far: did you mean press-1? It is planned all the same"]),
        (["x"], set("abcde"), ["no asset x is known so far: there is a, b, c and 2 more. It is planned all the same"]),
        (list("vwxyz"), {"a"}, [*(f"no asset {x} is known so far: there is a. It is planned all the same" for x in "vwx"), "nor are 2 more of these assets"]),
    ],
)  # fmt: skip
def test_an_asset_that_nobody_has_heard_of_is_said(
    assets: list[str], known: set[str], lines: list[str]
) -> None:
    assert unknown_lines(assets, known) == lines


def test_the_next_occurrence_of_a_stop_is_known() -> None:
    start = datetime(2026, 3, 1, 6, tzinfo=UTC)
    order = MaintenanceOrder("oil", start, start + timedelta(hours=2), ("a",), rrule="FREQ=DAILY;COUNT=3")
    for hours, state, begins in (
        (-1.0, "planned", "2026-03-01T06:00:00Z"),
        (1.0, "active", "2026-03-01T06:00:00Z"),
        (2.0, "planned", "2026-03-02T06:00:00Z"),
        (49.0, "active", "2026-03-03T06:00:00Z"),
        (51.0, "over", None),
    ):
        row = entry(order, "message", start + timedelta(hours=hours))
        assert (row["state"], row["next_start"]) == (state, begins)
        assert row["next_end"] == (begins and begins.replace("T06", "T08"))
        assert (row["start"], row["until"]) == (
            "2026-03-01T06:00:00Z",
            row["next_end"] if state == "active" else None,
        )


@pytest.mark.kafka
@pytest.mark.slow
def test_a_stop_is_told_to_a_running_daemon_outlives_it_and_ends(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    talking = Talking(kafka_bootstrap, tmp_path, lines(-700, 0))
    daemon, maintenance = talking.daemon, partial(talking.say, "maintenance")
    with daemon:
        talking.send(lines(0, 300), 600)
        add = ("add", "pump-1", "2m", "--start", START, "--name", "oil", "--reason", "oil", "--by", "kim")
        assert maintenance(*add) == {
            "name": "oil",
            "start": "2025-11-29T06:25:00+00:00",
            "end": "2025-11-29T06:27:00+00:00",
        }
        daemon.until(lambda state: "control_received" in daemon.log.read_text())
        talking.send(lines(300, 360, range(320, 340)), 720)
        # Its configuration is read anew, and one with a fault changes nothing.
        written = daemon.config.read_text()
        daemon.config.write_text(written + "alerts: {refractoy: 90s}\n")
        daemon.until(lambda state: "config_refused" in daemon.log.read_text())
        daemon.config.write_text(written + "alerts: {refractory: 90s}\n")
        daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        daemon.until(lambda state: "config_reloaded" in daemon.log.read_text())
        assert daemon.stop() == 0
    assert "alerts.refractory" in daemon.log.read_text()
    with daemon:  # a successor takes it from the state, and not again from the topic
        talking.send(lines(360, 460, range(380, 440)), 200)
        assert daemon.stop() == 0

    misspelt = command("maintenance", "add", "pump-1", "pmp-2", "1s", "--name", "odd", "-c", daemon.config)
    assert (misspelt.returncode, misspelt.stdout.startswith("odd: pmp-2, pump-1 from ")) == (0, True)
    assert misspelt.stderr == (
        "note: no asset pmp-2 is known so far: did you mean pump-2? It is planned all the same\n"
    )
    maintenance("add", "pump-2", "1m", "--start", START, "--name", "odd")
    (told,) = [each for each in maintenance("list", "--past") if each["name"] == "oil"]
    assert {key: told[key] for key in ("name", "state", "assets", "by", "reason", "source")} == {
        "name": "oil", "state": "over", "assets": ["pump-1"], "by": "kim", "reason": "oil", "source": "message",
    }  # fmt: skip
    assert maintenance("list") == []
    maintenance("add", "--all", "1h", "--name", "now")
    assert [each["state"] for each in maintenance("list")] == ["active"]
    maintenance("end", "now")
    assert maintenance("list") == []
    over = command("maintenance", "end", "oil", "-c", daemon.config)
    assert (over.returncode, "'oil' is over since 2025-11-29T06:27:00Z" in over.stderr) == (2, True)
    refused = command("maintenance", "end", "never", "-c", daemon.config)
    assert (refused.returncode, "no maintenance 'never'" in refused.stderr) == (2, True)

    found = [
        (m["type"].split(".")[-2], m["data"]["row"][11:19], m["data"]["status"], m["data"].get("maintenance"))
        for m in messages(kafka_bootstrap, f"{talking.prefix}.alerts")
        if m["data"]["kind"] == "anomaly" and m["subject"] == "pump-1"
    ]
    assert [each for each in found if each[0] == "suppressed"] == [
        ("suppressed", "06:25:20", "suppressed", "oil"),
        ("suppressed", "06:26:20", "suppressed", "oil"),
    ]
    assert (
        next(each for each in found if each[0] == "opened")[1] == "06:27:15"
    )  # no row of it is in the window

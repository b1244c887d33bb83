from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.domain import Reading, Record
from daemon.stream.decoding import Decoder
from tests.bench.latency import CALM_ROWS, FAULT_ROWS, Seen, Watched, faulty, opened, trained
from tests.bench.limit import bare, typed
from tests.bench.memory import readings
from tests.bench.shapes import FLEET, SHAPES, Shape, lines_of, possible, spec_of
from tests.bench.stage import Sample, cost
from tests.bench.workload import START_ROW, Workload
from tests.running import Daemon


def test_cost_runs_from_the_first_warm_sample_to_the_first_that_saw_the_end() -> None:
    samples = [Sample(0.0, 5.0, 0), Sample(1.0, 6.0, 100), Sample(3.0, 8.0, 500), Sample(4.0, 8.5, 500)]
    found = cost(samples, 50)
    assert (found.records, found.cpu_s, found.wall_s) == (400, 2.0, 2.0)
    assert (found.cpu_us, found.per_s) == (5_000.0, 200.0)


def test_cost_refuses_what_was_over_between_two_looks() -> None:
    with pytest.raises(ValueError, match="take more"):
        cost([Sample(0.0, 0.0, 0), Sample(1.0, 1.0, 500)], 50)


def test_faults_are_short_and_leave_half_the_assets_and_the_start_alone() -> None:
    values = Workload(3, assets=4).values(CALM_ROWS + 200)
    changed = (faulty(values, 50) != values).any(2)  # (rows, assets)
    assert not changed[:CALM_ROWS].any()
    assert not changed[:, 1::2].any()
    for asset in (0, 2):
        rows = np.flatnonzero(changed[:, asset])
        assert len(rows) in (4 * FAULT_ROWS, 4 * FAULT_ROWS - 1, 4 * FAULT_ROWS - 2)  # the end cuts the last


def alert(**data: Any) -> dict[str, Any]:
    return {
        "type": "io.anomalyd.episode.opened.v1",
        "data": {"kind": "anomaly", "origin": {"partition": 1, "first_offset": 3, "last_offset": 7}, **data},
    }


def test_an_alert_that_opens_names_the_record_that_did_it() -> None:
    assert opened(alert()) == (1, 7)
    assert opened(alert(kind="drift")) is None
    assert opened({**alert(), "type": "io.anomalyd.episode.closed.v1"}) is None


def test_delays_count_from_the_append_and_leave_out_what_was_not_paced() -> None:
    alerts = [Seen((0, 1), 130.0, 150.0), Seen((0, 2), 130.0, 150.0)]
    written, seen = Watched(appended_ms={(0, 2): 100.0}, alerts=alerts).delays()
    assert (written.tolist(), seen.tolist()) == ([30.0], [50.0])


def test_the_time_in_training_is_that_between_its_log_lines(tmp_path: Path) -> None:
    told = [("05", "training_started"), ("15", "model_refused"), ("18", "training_started")]
    daemon = Daemon(tmp_path, {})
    lines = [json.dumps({"timestamp": f"1970-01-01T00:00:{at}.5Z", "event": what}) for at, what in told]
    daemon.log.write_text("\n".join(lines))
    assert trained(daemon, 10.5, 20.5) == (2, pytest.approx(0.7))


def test_a_line_is_decoded_whole_and_of_the_window_that_was_asked_for() -> None:
    work = Workload(3, assets=2, window=32)
    assert work.spec().window == work.config("", "", "", "")["streams"][0]["window"] == 32
    lines = [line for _, line in work.lines(2, first=1)]
    assert len(lines) == 4
    found: Any = typed(work.names)(lines[0])
    assert [getattr(found.values, name) for name in work.names] == work.values(3)[1, 0].round(4).tolist()


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if possible(shape)], ids=lambda shape: shape.name
)
def test_every_shape_carries_the_same_readings(shape: Shape) -> None:
    count = 3 * shape.records
    lines = list(islice(lines_of(shape, 1, START_ROW), count))
    handle, decoder = bare(shape.fields, shape.names), Decoder(spec_of(shape))
    for _, _, line in lines:
        handle(line)
    records = [Record(i, key, line, row * 10**9) for i, (row, key, line) in enumerate(lines)]
    readings = [found for found in decoder.decode_all(records) if isinstance(found, Reading)]
    assert len(readings) == count
    assert {found.time_ns // 10**9 for found in readings} == {START_ROW}
    values = [cell for found in readings for cell in (found.values or [found.value])]
    assert values == pytest.approx(FLEET.values(1)[0, :3].round(4).ravel().tolist())


def test_readings_come_in_time_order_with_every_asset() -> None:
    found = list(readings(3, 2))
    assert [r.offset for r in found] == list(range(6))
    assert [r.asset for r in found] == ["pump-000000", "pump-000001", "pump-000002"] * 2
    assert [r.time_ns // 10**9 for r in found] == [START_ROW] * 3 + [START_ROW + 1] * 3

"""Control messages reach every partition of the streams, whatever they are about."""

from __future__ import annotations

import pytest

from daemon.adapters.memory import MemoryControls, MemoryLog, MemorySink, MemorySource
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.commands.wiring import encoder
from daemon.control import Control, Feedback, RetrainRequest, Verdict
from daemon.domain import StreamSpec
from daemon.runtime.loop import Loop
from daemon.runtime.options import LoopOptions
from daemon.runtime.stream_run import StreamPlan, StreamRun


@pytest.mark.parametrize(
    "control", [RetrainRequest("pumps"), RetrainRequest("fans"), Feedback("f", Verdict.CONFIRMED)]
)
async def test_each_partition_takes_it_so_that_its_state_says_that_somebody_has_it(control: Control) -> None:
    spec = StreamSpec("pumps", ("a",), topics=("sensors.pumps",))
    log = MemoryLog()
    for second in range(3):
        log.append(spec.topics[0], b'{"asset":"p1","ts":%d,"values":{"a":1}}' % (1_700_000_000 + second))
    log.finish(spec.topics[0])
    controls = MemoryControls(log, "anomalyd.feedback")
    await controls.send(control)
    stream = StreamRun(StreamPlan(spec))
    await Loop(
        MemorySource(log, list(spec.topics)),
        MemorySink(log, "anomalyd", encoder()),
        [stream],
        Reporter(Metrics(["pumps"], list(spec.topics)), Status(["pumps"])),
        options=LoopOptions(controls=controls),
    ).run()
    assert [one.parts.controls.position for one in stream.pipelines.values()] == [1]

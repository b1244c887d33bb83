"""``train`` on files: its notes, and which rows of a history count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.adapters.registry import DecisionRecord, KafkaModels
from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.train import TrainOptions, publish_topics, train_files
from daemon.commands.wiring import create_topics, kafka_settings
from daemon.config import load
from daemon.domain import Segment
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.runtime.segmenting import newest_rows
from tests.broker import create_topic, produce, read_topic
from tests.commands.fleet import fleet_table
from tests.running import config_for, unique
from tests.test_replicas import lines


async def test_concerns_about_a_model_are_in_notes_and_summary(tmp_path: Path) -> None:
    history = fleet_table(tmp_path / "train.parquet", rows=120)
    sets = ["model.steps=60", "model.beta=3000", "streams.0.window=4"]
    bundle, notes = await train_files(TrainOptions([history], tmp_path / "model", sets=sets))
    assert bundle.concerns
    assert set(bundle.concerns) <= set(notes)
    test = fleet_table(tmp_path / "test.parquet", rows=40, skip=120)
    done = await replay(ReplayOptions(test, tmp_path / "out", model=tmp_path / "model"))
    assert done.summary["model"]["concerns"] == list(bundle.concerns)
    assert done.summary["model"]["likelihood"] < done.summary["model"]["likelihood_ppca"]
    assert any(bundle.concerns[0] in note for note in done.notes)


def test_the_newest_rows_of_all_assets_are_kept() -> None:
    def cut(wanted: int) -> list[tuple[str, int, int]]:
        history = [
            Segment("a", 0, np.zeros((10, 1)), ("x",) * 10),
            Segment("b", 5, np.zeros((10, 1))),
            Segment("c", 0, np.zeros((2, 1))),
        ]
        return [(s.asset, s.first_row, len(s.values)) for s in newest_rows(history, wanted)]

    assert cut(22) == [("a", 0, 10), ("b", 5, 10), ("c", 0, 2)]
    assert cut(15) == [("a", 5, 5), ("b", 5, 10)]
    assert cut(6) == [("b", 10, 5)]  # half of row 9 would be one asset's
    assert newest_rows([Segment("a", 0, np.zeros((3, 1)), ("x", "y", "z"))], 1)[0].condition == ("z",)
    assert newest_rows([], 5) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"files": [Path("a.csv")], "out": Path("m"), "publish": True}, "--publish is for topics"),
        ({"files": [], "out": None}, "needs --out"),
        ({"files": [Path("a.csv")], "out": None}, "needs --out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainOptions(**given)


@pytest.mark.kafka
async def test_a_training_on_topics_publishes_its_decision_and_what_it_promotes(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic, prefix = unique("in"), unique("out")
    document = config_for(kafka_bootstrap, topic, prefix, ["a", "b"]) | {"model": {"kind": "ppca"}}
    settings = load(None, (), document)
    await create_topic(kafka_bootstrap, topic)
    await create_topics(settings)
    await produce(kafka_bootstrap, topic, [(b"p", line) for line in lines(2, range(1_200))])
    for out in (tmp_path / "bundle", None):
        record, _ = await publish_topics(settings, TrainOptions([], out, publish=True))
        if out is not None:
            assert (record.promoted, record.reason, record.parent) == (True, "no model to compare with", "")
            assert Bundle.load(out).version == record.version
            first = record
    assert record.parent == first.version
    assert [rule["name"] for rule in record.rules][:2] == ["finite", "active_units"]
    published = await read_topic(kafka_bootstrap, f"{prefix}.retrain")
    assert [DecisionRecord.read(message.value) for message in published] == [first, record]
    models = KafkaModels(kafka_settings(settings), prefix)
    try:
        promoted = await models.promoted("pumps")
        assert promoted is not None
        assert promoted.version == (record if record.promoted else first).version
        assert set(models.known("pumps")) == {first.version, record.version}  # also where it was refused
    finally:
        await models.stop()

"""The document of an explanation: sentences and figures as people read them."""

from __future__ import annotations

import dataclasses

from daemon.adapters.root_cause_page.document import root_cause_document
from daemon.model.repair import Repair, Verdict
from tests.adapters.admin.fleet import SENSORS
from tests.adapters.root_cause_page.explained import explained


def test_the_document_has_the_words_before_the_figures() -> None:
    document = root_cause_document(explained())
    assert document["cause"] in ("process fault", "process fault?")
    assert document["headline"].startswith("The process is off: ")
    assert [t["what"] for t in document["tiles"]] == ["Since", "Score", "Smallest repair"]
    assert document["tiles"][2]["big"] == "2 of 6 sensors"
    assert [r["sensor"] for r in document["readings"]] == list(SENSORS[:2])
    assert [b["share"] for b in document["blame"]] == ["50 %", "30 %", "10 %", "5 %", "5 %"]
    assert [b["repaired"] for b in document["blame"]] == [True, True, False, False, False]
    assert document["nearest"][0]["feedback"] == "real: the cooler's valve was stuck"


def test_a_normal_window_has_no_cause_and_needs_no_repair() -> None:
    found = dataclasses.replace(
        explained(),
        incident=None,
        verdict=Verdict(None, 1.0, 1.0, 1.0),
        repair=Repair((), 2.0, 2.0, 3.9, 0, 0, 0),
    )
    document = root_cause_document(found)
    assert (document["cause"], document["certainty"], document["identity"]) == (None, None, None)
    assert document["headline"] == "Nothing is wrong here"
    assert document["tiles"][2]["big"] == "none needed"
    assert document["readings"] == []

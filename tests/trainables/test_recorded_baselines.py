"""Tests that a request names the records of its baselines, whose results are read where they are needed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables import recorded_baselines
from trainables.constraint import BestConstraint
from trainables.probes.metric import hits, scores
from trainables.record import Measurement, Record
from trainables.recorded_baselines import RecordedBaselines, baseline_in
from trainables.verdict import Verdict
from trainables.workers.protocol import Request, Rules


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(tmp_path / "A0-000000000000")
    record.home.mkdir()
    found = scores({"irrelevant_pass": hits({f"irrelevant-{number:05}": True for number in range(5000)})})
    record.append(Measurement("eval", 0, found.metrics, found.counts, found.rows))
    record.write_samples(0, [{"row": "c1", "kind": "caption", "answer": "a red lamp"}])
    record.close(Verdict(kind="completed", step=0))
    recorded_baselines._read.cache_clear()
    yield record
    recorded_baselines._read.cache_clear()


def test_it_reads_what_the_record_holds_once(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    baselines = RecordedBaselines({"abc": str(record.home)})
    known = baselines["abc"]
    assert known == baseline_in(record) and known.captions == {"c1": "a red lamp"}
    assert known.metrics == {"irrelevant_pass": 1.0} and len(known.rows["irrelevant_pass"].values) == 5000
    monkeypatch.setattr(Record, "evals", lambda self: pytest.fail("it was read before"))
    assert baselines["abc"] is known and dict(baselines) == {"abc": known}
    assert baselines.get("other") is None


def test_a_request_does_not_grow_with_the_rows_of_its_baseline(record: Record) -> None:
    def request_bytes(rules: Rules) -> int:
        return len(pickle.dumps(Request((str(record.home),), rules, "STOP", 1, 0)))

    by_reference = Rules(RecordedBaselines({"abc": str(record.home)}), (), BestConstraint())
    by_value = Rules({"abc": baseline_in(record)}, (), BestConstraint())
    assert by_reference.baselines["abc"] == by_value.baselines["abc"]
    assert request_bytes(by_reference) < 2_000 and request_bytes(by_value) > 50_000

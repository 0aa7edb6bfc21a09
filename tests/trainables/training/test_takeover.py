"""Tests a trial that a second process takes over while the first one still trains it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_trials import ANYTHING_GOES, SpecMaker, assert_same_outcome, finish, never, outcome, whole_run

from trainables.attempt import claim
from trainables.cohort.sequential import on_base
from trainables.engine import Engine
from trainables.lease import Owner, Superseded
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.record_check import check_record
from trainables.training.trial import Trial

CUT_OFF, OTHER = (Owner(host=name, machine=f"{name} boot", pid=1, started=1) for name in ("node-a", "node-b"))


def test_a_trial_that_was_taken_over_ends_as_if_one_process_had_trained_it(
    engine: Engine, baseline: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    spec, record = make_spec(), Record(tmp_path / "taken-over")
    record.create(spec)
    first = Trial(engine, spec, claim(record, me=CUT_OFF), baseline, (), ANYTHING_GOES)
    assert first.advance(never) is None
    first.remove()
    second = Trial(engine, spec, claim(record, ended=lambda _: None, me=OTHER), baseline, (), ANYTHING_GOES)
    assert second.step == 2, "it goes on from the checkpoint of the first"
    second.remove()
    with on_base(engine.base, first), pytest.raises(Superseded):  # both live: the first trains on, and is refused
        first.advance(never)
    with on_base(engine.base, second):
        finish(second)
    ended = outcome(record)
    with on_base(engine.base, first), pytest.raises(Superseded):
        first.checkpoint()
    assert outcome(record) == ended
    check_record(record)
    assert_same_outcome(record, whole_run(engine, spec, tmp_path / "alone", baseline, constraint=ANYTHING_GOES))

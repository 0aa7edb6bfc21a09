"""Tests that a trial's drafts are its own last answers and its baseline's, and that no result depends on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_trials import ANYTHING_GOES, SpecMaker, assert_same_outcome, finish, opened, train_to, whole_run

from trainables.engine import Engine
from trainables.evaluation.decoding import read_answers
from trainables.probes.probe import Baseline
from trainables.probes.question import answers_in, ask_ood, ask_validation
from trainables.record import Record
from trainables.training.answered import Answered


@pytest.fixture(scope="module")
def known(engine: Engine, baseline: Baseline) -> Baseline:
    return replace(baseline, answers=engine.evaluator.measure(None)[1])


@pytest.fixture(scope="module")
def usual(engine: Engine, make_spec: SpecMaker, known: Baseline, tmp_path_factory: pytest.TempPathFactory) -> Record:
    return whole_run(engine, make_spec(), tmp_path_factory.mktemp("usual") / "t", known, constraint=ANYTHING_GOES)


def texts(engine: Engine, drafts: Any) -> dict[str, str]:
    found = read_answers([list(one) for one in drafts.values()], engine.encoder)
    return {key: one.text for key, one in zip(drafts, found, strict=True)}


def test_samples_of_a_record_give_the_answers_by_question_again(engine: Engine, known: Baseline) -> None:
    samples = engine.evaluator.samples(known.answers)
    assert answers_in(samples) == known.answers and len(known.answers) == len(engine.evaluator.questions)


@pytest.mark.parametrize("drafted", ["none", "those of other questions"])
def test_a_trial_ends_alike_whatever_was_drafted(
    drafted: str, engine: Engine, make_spec: SpecMaker, known: Baseline, usual: Record, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = Answered.drafts.fget
    assert own is not None

    def others(self: Answered) -> Any:
        def shifted(one: Any) -> Any:
            return dict(zip(one, [*list(one.values())[1:], *list(one.values())[:1]], strict=True))

        return () if drafted == "none" else tuple(map(shifted, own(self)))

    monkeypatch.setattr(Answered, "drafts", property(others))
    assert_same_outcome(whole_run(engine, make_spec(), tmp_path / "t", known, constraint=ANYTHING_GOES), usual)


def test_a_resumed_trial_takes_its_answers_from_the_record_and_ends_alike(
    engine: Engine, make_spec: SpecMaker, known: Baseline, usual: Record, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", known, constraint=ANYTHING_GOES) as trial:
        train_to(trial, 2)
        last = texts(engine, trial.answered.drafts[0])
    record = Record(tmp_path / "t")
    assert last == answers_in(record.samples(2)), "of the eval before"
    with opened(engine, make_spec(), tmp_path / "t", known, constraint=ANYTHING_GOES) as trial:
        assert texts(engine, trial.answered.drafts[0]) == last
        finish(trial)
    assert_same_outcome(Record(tmp_path / "t"), usual)


def test_a_record_without_samples_drafts_nothing(
    engine: Engine, make_spec: SpecMaker, known: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", known, constraint=ANYTHING_GOES) as trial:
        train_to(trial, 2)
    (tmp_path / "t" / "samples" / "step-2.jsonl").unlink()
    assert Answered(engine.evaluator, Record(tmp_path / "t"), known).drafts[0] == {}


def test_the_base_drafts_what_lies_outside_the_task_and_controls_get_no_answers_of_it(
    engine: Engine, known: Baseline, usual: Record
) -> None:
    data, answered = engine.evaluator.data, Answered(engine.evaluator, usual, known)
    outside = {ask_ood(row).key for row in data.ood}
    own, of_base = answered.drafts
    assert of_base.keys() == outside and texts(engine, of_base) == {key: known.answers[key] for key in outside}
    assert {ask_validation(row).key for row in data.validation} < own.keys()
    assert [one.keys() for one in answered.outside] == [outside, outside]

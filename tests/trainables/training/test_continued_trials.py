"""Tests a trial that continues an adapter: its first eval, its lineage, new modules, and forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_trials import ANYTHING_GOES, SpecMaker, assert_same_outcome, finish, opened, tensors, whole_run

from trainables.checkpoints.adapter import adapter_source
from trainables.checkpoints.lineage import lineage_in, parent_eval
from trainables.data.rows import Message, read_rows
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.evaluator import Evaluator
from trainables.guards import Ceiling, Fall
from trainables.io.files import read_json
from trainables.metrics import metric
from trainables.probes.captions import captions
from trainables.probes.earlier_stages import MOST_STAGES, score
from trainables.probes.metric import Proportion, RowResults, scores
from trainables.probes.probe import Baseline, Losses
from trainables.probes.question import ask_validation
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec

LARGER: dict[str, Any] = {"placement": Placement(language=2, vision=4), "continuation": "extended"}


@pytest.fixture(scope="module")
def parent(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path_factory: pytest.TempPathFactory
) -> Record:
    directory = tmp_path_factory.mktemp("parent") / "S1"
    return whole_run(engine, make_spec(name="S1"), directory, baseline, constraint=ANYTHING_GOES)


@pytest.fixture(scope="module")
def staged(engine: Engine, make_spec: SpecMaker) -> Engine:
    """The engine of a second stage, with the rows of the first stage as its own, so that both can be compared."""
    data = replace(engine.evaluator.data, earlier=(engine.evaluator.data.validation,))
    return replace(engine, evaluator=Evaluator(engine.base, engine.encoder, data))


@pytest.fixture(scope="module")
def staged_baseline(staged: Engine) -> Baseline:
    scores, answers = staged.evaluator.measure(None)
    return Baseline(scores.metrics, captions(staged.evaluator.data, answers), scores.counts)


def second(parent: Record, make_spec: SpecMaker, **changes: Any) -> TrialSpec:
    return make_spec(name="S2", init_from=adapter_source(parent.checkpoint(4)), seed=3, **changes)


def moved(spec: TrialSpec) -> TrialSpec:
    """Give a spec other validation rows, the old ones being those of its earlier stage."""
    elsewhere = Source(path=spec.validation.path, sha256="second")
    return spec.model_copy(update={"validation": elsewhere, "earlier": (spec.validation,)})


@pytest.fixture
def continued(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, parent: Record, tmp_path: Path
) -> Iterator[Record]:
    spec = second(parent, make_spec, steps=2)
    yield whole_run(engine, spec, tmp_path / "S2", baseline, constraint=ANYTHING_GOES)


def test_the_first_eval_is_the_parents_last(continued: Record, parent: Record) -> None:
    first, last = continued.evals()[0], parent.evals()[-1]
    assert (first.step, [one.step for one in continued.evals()]) == (0, [0, 2])
    assert first.metrics == pytest.approx(dict(last.metrics))


def test_a_lineage_names_all_ancestors_their_hashes_and_rates(
    continued: Record, parent: Record, engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    spec = make_spec(name="S3", init_from=adapter_source(continued.directory / "best"), learning_rate=7e-4, steps=2)
    third = whole_run(engine, spec, tmp_path / "S3", baseline, constraint=ANYTHING_GOES)
    kept = lineage_in(third)
    assert kept is not None
    assert [one["trial"] for one in kept["ancestors"]] == ["S2", "S1"]
    assert [one["sha256"] for one in kept["ancestors"]] == [
        spec.init_from.sha256 if spec.init_from else None,
        adapter_source(parent.checkpoint(4)).sha256,
    ]
    assert [one["learning_rate"] for one in kept["ancestors"]] == [2e-3, 2e-3]
    assert (kept["base"], kept["new_modules"], kept["continuation"]) == ("same, by sha256", 0, "same")
    assert kept["ancestors"][1]["trial_id"] == parent.spec().trial_id
    assert read_json(third.directory / "best" / "provenance.json")["lineage"] == kept
    assert lineage_in(parent) is None


def test_an_extension_keeps_the_function_and_trains_what_is_new(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, parent: Record, tmp_path: Path
) -> None:
    from trainables.constraint import CONSTRAINT
    from trainables.selftest.run import SelfTest
    from trainables.training.trial import open_trial

    spec, record = second(parent, make_spec, **LARGER), Record(tmp_path / "grown")
    record.create(spec)
    trial: Any = open_trial(engine, spec, record, baseline, (), CONSTRAINT, SelfTest(engine))
    try:
        verdict = finish(trial)
    finally:
        trial.remove()
    assert str(verdict) == "completed", verdict
    assert record.evals()[0].metrics == pytest.approx(dict(parent.evals()[-1].metrics))
    assert (lineage_in(record) or {})["new_modules"] == 8
    grown = tensors(record.checkpoint(4) / "adapter_model.safetensors")
    new = [name for name in grown if (".blocks.8." in name or ".blocks.9." in name) and "lora_B" in name]
    assert len(new) == 8
    assert all(any(map(any, grown[name])) for name in new)


def test_a_guard_that_the_parent_violates_is_reported_before_training(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, parent: Record, tmp_path: Path
) -> None:
    strict = (Ceiling("eval_loss", max_absolute_rise=-1e9, patience_evals=1),)
    record = whole_run(engine, second(parent, make_spec), tmp_path / "t", baseline, guards=strict)
    verdict = record.verdict()
    assert verdict is not None and (verdict.kind, verdict.step) == ("pruned", 0)


def test_an_adapter_that_changed_since_the_plan_is_refused(
    make_spec: SpecMaker, baseline: Baseline, parent: Record, engine: Engine, tmp_path: Path
) -> None:
    spec = second(parent, make_spec)
    changed = spec.model_copy(update={"init_from": Source(path=parent.checkpoint(2), sha256=spec.init_from.sha256)})  # type: ignore[union-attr]
    with (
        pytest.raises(UserError, match="must be unchanged since it was planned"),
        opened(engine, changed, tmp_path / "t", baseline),
    ):
        pass


# ---------------------------------------------------------------- earlier stages
def test_rows_of_earlier_stages_are_evaluated_like_the_own_rows(staged: Engine) -> None:
    metrics = staged.evaluator.measure(None)[0].metrics
    assert metrics["stage1_loss"] == metrics["eval_loss"] == staged.evaluator.stage_loss(1)
    assert metrics["stage1_accuracy"] == metrics["token_accuracy"]
    assert "stage2_loss" not in metrics
    assert all(metric(name).counts for name in metrics)


def test_a_row_right_in_every_token_is_what_greedy_decoding_answers(engine: Engine, make_spec: SpecMaker) -> None:
    rows, spoken = read_rows(make_spec().validation.path), engine.evaluator.measure(None)[1]
    output = tuple(
        replace(row, messages=(*row.prompt, Message("assistant", spoken[ask_validation(row).key]))) for row in rows[:2]
    )  # what the base says of these two rows is their reference; of the third it is not
    data = replace(engine.evaluator.data, earlier=((*output, rows[2]),))
    scores, _ = Evaluator(engine.base, engine.encoder, data).measure(None)
    assert scores.metrics["stage1_exact_match"] == pytest.approx(2 / 3)
    assert scores.counts["stage1_exact_match"] == Proportion(2, 3)


@pytest.mark.slow
def test_a_cohort_evaluates_rows_of_earlier_stages_as_a_solo_trial_does(
    staged: Engine, make_spec: SpecMaker, staged_baseline: Baseline, parent: Record, tmp_path: Path
) -> None:
    from trainables.cohort.cohort import Cohort
    from trainables.training.trial import open_trial

    specs = [moved(second(parent, make_spec, steps=2, placement=p, continuation="extended")) for p in
             (Placement(language=2, vision=2), Placement(language=3, vision=2))]  # fmt: skip
    alone = [
        whole_run(staged, spec, tmp_path / f"alone-{i}", staged_baseline, constraint=ANYTHING_GOES)
        for i, spec in enumerate(specs)
    ]
    together = [Record(tmp_path / f"together-{i}") for i in range(2)]
    trials: list[Any] = []
    for spec, record in zip(specs, together, strict=True):
        record.create(spec)
        trials.append(open_trial(staged, spec, record, staged_baseline, (), ANYTHING_GOES))
        assert trials[-1].check_before_training() is None
        trials[-1].remove()
    cohort = Cohort(staged, trials)
    try:
        while cohort.trials:
            cohort.advance(lambda: False)
    finally:
        cohort.remove()
    for one, reference in zip(together, alone, strict=True):
        assert [eval_.step for eval_ in one.evals()] == [0, 2]
        for mine, theirs in zip(one.evals(), reference.evals(), strict=True):
            assert mine.metrics == pytest.approx(dict(theirs.metrics), rel=1e-4, abs=1e-4)
            assert {"stage1_loss", "stage1_accuracy", "stage1_exact_match"} <= mine.metrics.keys()


def test_the_parent_is_found_among_the_rows_of_earlier_stages(parent: Record, make_spec: SpecMaker) -> None:
    spec, last = second(parent, make_spec), parent.evals()[-1].metrics["eval_loss"]
    own, earlier = parent_eval(spec), parent_eval(moved(spec))
    assert own and (own.loss, own.stage) == (last, 0)
    assert earlier and (earlier.loss, earlier.stage) == (last, 1)
    strangers = moved(spec).model_copy(update={"earlier": ()})
    assert parent_eval(strangers) is None
    assert parent_eval(spec.model_copy(update={"quantization": "int8"})) is None


def test_the_self_test_of_a_second_stage_uses_the_first_stages_rows(
    staged: Engine, make_spec: SpecMaker, staged_baseline: Baseline, parent: Record, tmp_path: Path
) -> None:
    from trainables.selftest.run import judge_parent_loss

    spec = moved(second(parent, make_spec))
    with opened(staged, spec, tmp_path / "t", staged_baseline) as trial:
        assert judge_parent_loss(spec, staged) is None
        for _, parameter in trial.adapter.trained():
            parameter.data.mul_(-30.0)
        found = judge_parent_loss(spec, staged)
    assert found is not None and (found.check, found.level) == ("handover", "invalid")


def test_forgetting_an_earlier_stage_stops_the_trial(
    staged: Engine, make_spec: SpecMaker, staged_baseline: Baseline, parent: Record, tmp_path: Path
) -> None:
    spec = moved(second(parent, make_spec, eval_every_steps=1, learning_rate=1.0, vision_learning_rate=1.0))
    guards = (Fall("stage1_accuracy", max_absolute_drop=0.10, patience_evals=2),)
    record = whole_run(staged, spec, tmp_path / "t", staged_baseline, guards=guards, constraint=ANYTHING_GOES)
    verdict = record.verdict()
    assert verdict is not None and (verdict.kind, verdict.cause) == ("pruned", "stage1_accuracy")


def test_stages_are_counted_from_one_and_have_declared_names() -> None:
    counted = scores(score([Losses((5.0, 1.0), (3, 1), (2, 1))] * MOST_STAGES, [("a", "b")] * MOST_STAGES))
    assert counted.counts["stage1_exact_match"] == Proportion(1, 2)
    assert counted.metrics[f"stage{MOST_STAGES}_loss"] == 1.5
    assert counted.rows["stage1_loss"] == RowResults({"a": 5 / 3, "b": 1.0}, {"a": 3.0, "b": 1.0})
    assert all(metric(name) for name in counted.metrics)


def test_a_resumed_continuation_is_not_handed_over_again(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, parent: Record, tmp_path: Path
) -> None:
    spec = second(parent, make_spec)
    whole = whole_run(engine, spec, tmp_path / "whole", baseline, constraint=ANYTHING_GOES)
    with opened(engine, spec, tmp_path / "t", baseline, constraint=ANYTHING_GOES) as trial:
        assert trial.advance(lambda: False) is None
    resumed = whole_run(engine, spec, tmp_path / "t", baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, whole)

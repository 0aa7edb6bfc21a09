"""Tests families without a shared forward: their trials train one after another, each exactly as alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import ANYTHING_GOES, FIRES_AT_SECOND, Sources, SpecMaker, assert_same_outcome, never, whole_run
from tiny_families import picture_sources, write_vision_base

from trainables.cohort.cohort import Cohort
from trainables.cohort.opening import open_cohort
from trainables.cohort.sequential import SequentialCohort, on_base
from trainables.cohort.shared_forward import SharedForward
from trainables.decision import Guard
from trainables.engine import Engine
from trainables.model.dropout import KeyedDropout
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, TrialSpec
from trainables.training.trial import Trial, open_trial

DEPTHS = {"a": (2, 2), "b": (3, 0), "c": (0, 4), "d": (1, 1)}


@pytest.fixture
def lone(sources: Sources) -> Engine:
    """An engine of short evals whose family shares no passes."""
    return without_shared_forward(packed.plain_engine(sources))


def without_shared_forward(engine: Engine) -> Engine:
    family = replace(engine.base.family, shared_forward=None)
    return replace(engine, base=replace(engine.base, family=family))


@pytest.fixture
def base_line(sources: Sources) -> Baseline:
    return packed.short_baseline(packed.plain_engine, sources)


def members(make: SpecMaker, names: str, **changes: Any) -> list[TrialSpec]:
    """Make trials with dropout on; the first and the fourth have one seed."""
    return [
        make(name=name, placement=Placement(language=DEPTHS[name][0], vision=DEPTHS[name][1]), seed=number % 3,
             batch_rows=1, dropout=0.1, **changes)
        for number, name in enumerate(names)
    ]  # fmt: skip


def opened(
    engine: Engine, specs: Sequence[TrialSpec], directory: Path, baseline: Baseline, guards: Sequence[Guard] = ()
) -> list[Trial]:
    """Open trials as an engine does: each adapter is placed on the bare base and removed again."""
    trials = []
    for spec in specs:
        record = Record(directory / spec.name)
        if not record.directory.exists():
            record.create(spec)
        trial = open_trial(engine, spec, record, baseline, guards, ANYTHING_GOES)
        assert isinstance(trial, Trial)
        trial.remove()
        trials.append(trial)
    return trials


def finish(cohort: Cohort | SequentialCohort) -> dict[str, str]:
    ended: dict[str, str] = {}
    while cohort.trials:
        names = {trial.spec.trial_id: trial.spec.name for trial in cohort.trials}
        ended |= {names[one]: str(verdict) for one, verdict in cohort.advance(never).items()}
    cohort.remove()
    return ended


def assert_equal_to_solo(
    engine: Engine, specs: Sequence[TrialSpec], directory: Path, baseline: Baseline, solo: Path
) -> None:
    for spec in specs:
        alone = whole_run(engine, spec, solo / spec.name, baseline, constraint=ANYTHING_GOES)
        assert_same_outcome(Record(directory / spec.name), alone)


# -------------------------------------------------------------------- which cohort
def test_a_family_with_a_shared_forward_trains_in_shared_passes(
    sources: Sources, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    engine = packed.plain_engine(sources)
    cohort = open_cohort(engine, opened(engine, members(make_spec, "ab"), tmp_path, base_line))
    assert isinstance(cohort, Cohort)
    cohort.remove()


def test_a_shared_forward_of_a_family_that_has_none_is_refused(lone: Engine) -> None:
    with pytest.raises(ValueError, match="must define a shared forward"):
        SharedForward(lone.base, ())


# -------------------------------------------------------------------- the same numbers
def test_trials_in_sequence_equal_trials_alone_bit_for_bit(
    lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    specs = members(make_spec, "abcd")
    cohort = open_cohort(lone, opened(lone, specs, tmp_path / "sequence", base_line))
    assert isinstance(cohort, SequentialCohort)
    assert finish(cohort) == dict.fromkeys("abcd", "completed")
    assert_equal_to_solo(lone, specs, tmp_path / "sequence", base_line, tmp_path / "solo")


def test_a_family_with_another_vision_tower_and_no_shared_forward_trains(sources: Sources, tmp_path: Path) -> None:
    own = picture_sources(tmp_path, write_vision_base("qwen2_5_vl", tmp_path / "base"), sources)
    engine, baseline = packed.plain_engine(own), packed.short_baseline(packed.plain_engine, own)
    engine = without_shared_forward(engine)
    specs = members(own.spec, "ab")
    ended = finish(open_cohort(engine, opened(engine, specs, tmp_path / "sequence", baseline)))
    assert ended == dict.fromkeys("ab", "completed")
    assert_equal_to_solo(engine, specs, tmp_path / "sequence", baseline, tmp_path / "solo")


@pytest.mark.parametrize("forgotten", ["tensors", "masks"])
def test_a_newly_initialized_adapter_is_detected(
    forgotten: str, lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The fault: the base carries a fresh adapter, or its masks, instead of the trial's own."""
    from trainables.cohort import sequential

    place, [trial] = sequential.place, opened(lone, members(make_spec, "a"), tmp_path, base_line)
    made: list[Any] = []
    monkeypatch.setattr(sequential, "place", lambda *given: made.append(place(*given)) or made[-1])
    with on_base(lone.base, trial):
        modules = dict(trial.adapter.peft_model.named_parameters())
        assert all(modules[name] is parameter for name, parameter in trial.adapter.trained())
        drops = [one for one in trial.adapter.peft_model.modules() if isinstance(one, KeyedDropout)]
        assert drops and all(one.masks is trial.adapter.masks for one in drops)
        assert made[0].masks is not trial.adapter.masks
    if forgotten == "tensors":
        monkeypatch.setattr(sequential, "setattr", lambda *_: None, raising=False)
    else:
        monkeypatch.setattr(sequential, "KeyedDropout", type(None))
    specs = members(make_spec, "a")
    ended = finish(SequentialCohort(lone, opened(lone, specs, tmp_path / "sequence", base_line)))
    if forgotten == "tensors":
        assert ended == {"a": "invalid(zero_gradient)"}
    else:
        with pytest.raises(AssertionError, match="differ"):
            assert_equal_to_solo(lone, specs, tmp_path / "sequence", base_line, tmp_path / "solo")


# -------------------------------------------------------------------- trials that end or leave
def test_a_stop_writes_all_checkpoints_and_a_new_cohort_continues_there(
    lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    specs = members(make_spec, "ab")
    cohort = SequentialCohort(lone, opened(lone, specs, tmp_path / "sequence", base_line))
    first, second = cohort.trials
    assert cohort.advance(never) == {}
    assert cohort.advance(lambda: first.step == 3) == {}
    assert (first.step, second.step) == (3, 2)
    assert [Record(tmp_path / "sequence" / name).checkpoint_steps()[0] for name in "ab"] == [3, 2]
    cohort.remove()
    again = SequentialCohort(lone, opened(lone, specs, tmp_path / "sequence", base_line))
    assert [trial.step for trial in again.trials] == [3, 2]
    assert finish(again) == dict.fromkeys("ab", "completed")
    assert_equal_to_solo(lone, specs, tmp_path / "sequence", base_line, tmp_path / "solo")


def test_a_pruned_trial_ends_and_one_that_leaves_keeps_its_checkpoint(
    lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    specs = members(make_spec, "abc", eval_every_steps=1)
    cohort = SequentialCohort(lone, opened(lone, specs, tmp_path, base_line))
    cohort.trials[0].guards = FIRES_AT_SECOND
    cohort.advance(never)
    cohort.leave(specs[1].trial_id)
    [verdict] = cohort.advance(never).values()
    assert (verdict.kind, verdict.step) == ("pruned", 2)
    assert [trial.spec.name for trial in cohort.trials] == ["c"]
    assert finish(cohort) == {"c": "completed"}
    assert (Record(tmp_path / "b").verdict(), Record(tmp_path / "b").checkpoint_steps()) == (None, [1])


def test_a_trial_that_does_not_fit_is_infeasible_and_the_others_continue(
    lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Trial._train_step

    def planted(trial: Trial) -> Any:
        if trial.spec.name == "b":
            lone.base.model.train()
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 GiB")
        return train(trial)

    monkeypatch.setattr(Trial, "_train_step", planted)
    specs = members(make_spec, "abc", steps=2)
    ended = finish(SequentialCohort(lone, opened(lone, specs, tmp_path, base_line)))
    assert ended == {"a": "completed", "b": "infeasible(memory)", "c": "completed"}


def test_a_row_that_is_too_long_ends_all_with_the_reason(
    lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    specs = members(make_spec, "ab", max_tokens=8)
    ended = finish(SequentialCohort(lone, opened(lone, specs, tmp_path, base_line)))
    assert ended == dict.fromkeys("ab", "infeasible(input)")
    assert "must fit max_tokens = 8" in str(Record(tmp_path / "a").verdict().reason)  # type: ignore[union-attr]


@pytest.mark.parametrize("fails", [False, True])
def test_the_base_is_as_it_was_after_each_eval(
    fails: bool, lone: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = lone.base.model
    modules, before = dict(model.named_modules()), {name: one.clone() for name, one in model.state_dict().items()}
    cohort = SequentialCohort(lone, opened(lone, members(make_spec, "ac"), tmp_path, base_line))
    if fails:
        monkeypatch.setattr(Trial, "_evaluate", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            cohort.advance(never)
    else:
        cohort.advance(never)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())

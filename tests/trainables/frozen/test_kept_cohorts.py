"""Tests that cohorts train as their trials do alone, and to the last bit alike whatever was kept before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import packed
import pytest
from frozen_room import keeping, kept_of
from small_trials import Sources, SpecMaker, assert_same_outcome
from together import ALL_AT_ONCE, Together, Watched, apart

from trainables.cohort.cohort import Cohort
from trainables.engine import Engine
from trainables.record import Record
from trainables.spec import Placement, TrialSpec
from trainables.training.trial import Trial

pytestmark = pytest.mark.slow
CURVES = 1e-8
DEPTHS = ((1, 0), (3, 0), (0, 3))


@pytest.fixture
def double() -> Iterator[None]:
    with packed.all_double():
        yield


def members(make: SpecMaker) -> list[TrialSpec]:
    return [
        make(name=f"L{language}-V{vision}", placement=Placement(language=language, vision=vision), seed=number,
             accumulation_steps=1, batch_rows=4, steps=6, eval_every_steps=3)
        for number, (language, vision) in enumerate(DEPTHS)
    ]  # fmt: skip


@pytest.mark.parametrize("passes", ["together", "calibrated"])
def test_a_cohort_from_kept_activations_trains_as_its_trials_do_alone(
    passes: str, sources: Sources, make_spec: SpecMaker, tmp_path: Path, double: None
) -> None:
    plain, specs = packed.double_engine(sources), members(make_spec)
    baseline = packed.short_baseline(packed.double_engine, sources)
    alone = Watched(plain, baseline, tmp_path / "alone")
    for spec in specs:
        alone.alone(spec)
    cut = ALL_AT_ONCE if passes == "together" else None
    engine = keeping(plain, directory=tmp_path / "files")
    cohort = Together(engine, baseline, tmp_path / "together", specs, cut=cut).finish()
    assert set(cohort.ends.values()) == {"completed"} and kept_of(engine).store.uses.from_memory > 0
    for spec in specs:
        assert apart(alone.curves[spec.name], cohort.watched.curves[spec.name]) < CURVES
        own, other = Record(tmp_path / "alone" / spec.name), cohort.record(spec.name)
        assert [one.step for one in own.evals()] == [3, 6]
        for mine, its in zip(own.evals(), other.evals(), strict=True):
            assert its.metrics["eval_loss"] == pytest.approx(mine.metrics["eval_loss"], rel=CURVES)


@pytest.mark.slow
def test_listed_layers_and_kinds_train_from_kept_activations_as_they_do_alone(
    sources: Sources, make_spec: SpecMaker, tmp_path: Path, double: None
) -> None:
    shape = {"accumulation_steps": 1, "batch_rows": 4, "steps": 4, "eval_every_steps": 4}
    plain = packed.double_engine(sources)
    # the others adapt the first block of the vision tower, or the first layer, below which nothing is kept
    specs = [packed.selected_members(make_spec, **shape)[number] for number in (1, 5, 6, 7)]
    baseline = packed.short_baseline(packed.double_engine, sources)
    alone = Watched(plain, baseline, tmp_path / "alone")
    for spec in specs:
        alone.alone(spec)
    engine = keeping(plain, directory=tmp_path / "files")
    cohort = Together(engine, baseline, tmp_path / "together", specs).finish()
    assert set(cohort.ends.values()) == {"completed"} and kept_of(engine).store.uses.from_memory > 0
    for spec in specs:
        assert apart(alone.curves[spec.name], cohort.watched.curves[spec.name]) < CURVES


def trained(engine: Engine, specs: list[TrialSpec], directory: Path) -> list[Record]:
    """Train a cohort to its end in float32, and return its records."""
    cohort = Together(engine, packed.short_baseline(packed.plain_engine, sources_of(specs)), directory, specs).finish()
    return [cohort.record(spec.name) for spec in specs]


def sources_of(specs: list[TrialSpec]) -> Sources:
    first = specs[0]
    return Sources(base=first.base, train=first.train, validation=first.validation, ood=first.ood)


def stopped_and_resumed(
    engine: Engine, resuming: Engine, specs: list[TrialSpec], directory: Path, step: int
) -> list[Record]:
    """Train a cohort to `step`, and from there in another process's engine."""
    baseline = packed.short_baseline(packed.plain_engine, sources_of(specs))
    first = Together(engine, baseline, directory, specs)
    cohort_trials = first.cohort.trials
    first.advance(lambda: cohort_trials[0].step >= step)
    first.cohort.remove()
    trials = []
    for spec in specs:
        trials.append(Trial(resuming, spec, Record(directory / spec.name), baseline, (), cohort_trials[0].constraint))
        trials[-1].adapter.remove()
    assert {trial.step for trial in trials} == {step}
    cohort = Cohort(resuming, trials, ALL_AT_ONCE)
    try:
        while cohort.trials:
            cohort.advance(lambda: False)
    finally:
        cohort.remove()
    return [Record(directory / spec.name) for spec in specs]


def test_cold_warm_read_and_resumed_runs_are_equal_to_the_last_bit(
    sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    plain, specs = packed.plain_engine(sources), members(make_spec)
    cold_engine = keeping(plain, directory=tmp_path / "files")
    cold = trained(cold_engine, specs, tmp_path / "cold")
    warm = trained(cold_engine, specs, tmp_path / "warm")
    reading = keeping(plain, directory=tmp_path / "files")
    read = trained(reading, specs, tmp_path / "read")
    assert kept_of(reading).store.uses.computed == 0 < kept_of(reading).store.uses.from_file
    resumed = stopped_and_resumed(keeping(plain), keeping(plain), specs, tmp_path / "resumed", step=2)
    small = trained(keeping(plain, memory_bytes=100_000), specs, tmp_path / "small")
    for records in (warm, read, resumed, small):
        for first, second in zip(cold, records, strict=True):
            assert_same_outcome(first, second)

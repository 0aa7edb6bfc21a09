"""Tests that a cohort keeps activations only where that pays, says so, and goes on as it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
from frozen_room import keeping, kept_of
from small_trials import TRAIN_ROWS, Sources, SpecMaker, assert_same_outcome, never
from together import Watched

from trainables.cohort.calibration_memory import CalibrationMemory
from trainables.cohort.cohort import Cohort
from trainables.cohort.cuts import Cut
from trainables.cohort.keeping import as_begun, decided
from trainables.cohort.opening import open_cohort
from trainables.engine import Engine
from trainables.frozen.keeping_file import KEEPING_FILE, read_keeping, write_keeping
from trainables.frozen.worth import ALWAYS, IN_TURN, NEVER, RANDOM, Keeping, Reads, decide
from trainables.spec import Placement, Source, TrialSpec
from trainables.training.trial import Trial

PLAIN, COLD, WARM = 1.0, 1.2, 0.2


class Clock:
    """Makes a pass take as long as what it starts from says: entries that are there, computed ones, or none."""

    def __init__(self, cohort: Cohort, costs: tuple[float, float, float] = (PLAIN, COLD, WARM)) -> None:
        self.cohort, self.costs, self.passes = cohort, costs, 0
        cohort._seconds = self  # type: ignore[method-assign]

    def __call__(self, numbers: Sequence[int], batches: Any) -> float:
        kept = self.cohort.shared.kept
        before = 0 if kept is None else kept.store.uses.computed
        self.cohort._backward(numbers, batches)
        self.cohort._forget_gradients(numbers)
        self.passes += 1
        plain, cold, warm = self.costs
        return plain if kept is None else cold if kept.store.uses.computed > before else warm


def spec_of(make: SpecMaker, epochs: float, **changes: Any) -> TrialSpec:
    steps = int(epochs * TRAIN_ROWS / 3)
    values = {"placement": Placement(language=2), "accumulation_steps": 1, "batch_rows": 3, "steps": steps,
              "eval_every_steps": steps}  # fmt: skip
    return make(**(values | changes))


def opened(engine: Engine, spec: TrialSpec, directory: Path) -> Cohort:
    """Open a cohort of one trial as engines do, but without the memory of this user."""
    baseline = packed.short_baseline(packed.plain_engine, sources_of(spec))
    trials = Watched(engine, baseline, directory).opened([spec])
    cohort = Cohort(engine, trials)
    cohort.keeping = as_begun(engine, trials)
    return cohort


def sources_of(spec: TrialSpec) -> Sources:
    return Sources(base=spec.base, train=spec.train, validation=spec.validation, ood=spec.ood)


def stepped(cohort: Cohort, steps: int) -> Cohort:
    last = cohort.trials[0].step + steps
    trial = cohort.trials[0]
    cohort.advance(lambda: trial.step == last)
    return cohort


@pytest.mark.parametrize(
    ("epochs", "costs", "training", "timed"),
    [
        (1, (PLAIN, COLD, WARM), False, 0),
        (2, (PLAIN, COLD, WARM), True, 4),
        (2, (PLAIN, 1.9, WARM), False, 7),  # a second round decides
    ],
)
def test_a_lone_trial_keeps_what_pays_and_its_record_says_so(
    epochs: float, costs: tuple[float, float, float], training: bool, timed: int, sources: Sources,
    make_spec: SpecMaker, tmp_path: Path,
) -> None:  # fmt: skip
    engine = keeping(packed.plain_engine(sources))
    cohort = opened(engine, spec_of(make_spec, epochs), tmp_path)
    clock = Clock(cohort, costs)
    stepped(cohort, 1).remove()
    found = read_keeping(cohort.trials[0].record.directory)
    assert found is not None and found == cohort.keeping
    assert found.training == training and clock.passes == timed
    assert (cohort.shared.kept is not None) == training
    assert f"trained on {epochs} times" in found.reason
    if not timed:
        assert kept_of(engine).store.uses.computed == 0


@pytest.mark.parametrize(("width", "timed"), [(1, True), (2, False)])
def test_trials_of_one_cut_in_passes_of_their_own_are_timed_in_one_epoch(
    width: int, timed: bool, sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    engine = keeping(packed.plain_engine(sources))
    baseline = packed.short_baseline(packed.plain_engine, sources)
    specs = [spec_of(make_spec, 1, name=name, seed=number) for number, name in enumerate("ab")]
    cohort = Cohort(engine, Watched(engine, baseline, tmp_path).opened(specs), Cut((), width))
    cohort.keeping = None
    clock = Clock(cohort)
    stepped(cohort, 1).remove()
    assert cohort.keeping is not None
    assert (clock.passes > 0) == timed == (cohort.keeping.costs is not None)


def test_costs_are_measured_once_on_a_machine(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    timed = []
    for number in range(2):
        cohort = opened(keeping(packed.plain_engine(sources)), spec_of(make_spec, 2), tmp_path / str(number))
        cohort.costs_memory = CalibrationMemory(tmp_path / "costs")
        clock = Clock(cohort)
        stepped(cohort, 1).remove()
        timed.append((clock.passes, cohort.keeping))
    assert timed[1] == (0, timed[0][1]) and timed[0][0] > 0


def test_a_resumed_trial_goes_on_as_it_began(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    """Whatever a step takes then."""
    spec = spec_of(make_spec, 2)
    begun = opened(keeping(packed.plain_engine(sources)), spec, tmp_path)
    Clock(begun)
    stepped(begun, 1).remove()
    trial = begun.trials[0]
    resumed = [Trial(keeping(packed.plain_engine(sources)), spec, trial.record, trial.baseline, (), trial.constraint)]
    resumed[0].adapter.remove()
    cohort = Cohort(resumed[0].engine, resumed)
    cohort.keeping = as_begun(cohort.engine, resumed)
    clock = Clock(cohort, (PLAIN, 9.0, 9.0))
    stepped(cohort, 1).remove()
    assert cohort.keeping == begun.keeping and clock.passes == 0 and cohort.shared.kept is not None
    (trial.record.directory / KEEPING_FILE).unlink()
    assert as_begun(cohort.engine, resumed) == ALWAYS, "as it was before records said so"
    assert as_begun(packed.plain_engine(sources), resumed) == NEVER


def two_trials(engine: Engine, sources: Sources, make_spec: SpecMaker, directory: Path) -> list[Trial]:
    baseline = packed.short_baseline(packed.plain_engine, sources)
    specs = [spec_of(make_spec, 2, name=name, seed=number) for number, name in enumerate("ab")]
    return Watched(engine, baseline, directory).opened(specs)


def written(trials: Sequence[Trial]) -> list[Keeping | None]:
    return [read_keeping(trial.record.directory) for trial in trials]


def test_trials_that_began_apart_are_no_cohort(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    engine = keeping(packed.plain_engine(sources))
    trials = two_trials(engine, sources, make_spec, tmp_path)
    assert as_begun(engine, trials) is None
    write_keeping(trials[0].record.directory, decide(Reads(1.0, 1), False))
    write_keeping(trials[1].record.directory, decide(Reads(1.0, 4), False))
    with pytest.raises(ValueError, match="must have begun alike"):
        open_cohort(engine, trials)
    (trials[1].record.directory / KEEPING_FILE).unlink()
    trials[1].progress.step = 1  # of an earlier version, so it keeps all
    with pytest.raises(ValueError, match="must have begun alike"):
        as_begun(engine, trials)


def test_a_new_trial_has_the_decision_of_its_cohort_before_its_first_step(
    sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    engine = keeping(packed.plain_engine(sources))
    trials = two_trials(engine, sources, make_spec, tmp_path)
    begun = decide(Reads(1.0, 4), False)
    write_keeping(trials[0].record.directory, begun)
    cohort = open_cohort(engine, trials)
    cohort.remove()
    assert written(trials) == [begun, begun]
    trials[1].progress.step = 1
    assert as_begun(engine, trials[1:]) == begun, "its resume goes on alike"


@pytest.mark.parametrize("why", ["off", "dropout", "in turn"])
def test_that_nothing_is_kept_is_written_too(why: str, sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    """Else a resumed launch that could keep would take the record for one of an earlier version."""
    plain = packed.plain_engine(sources)
    engine, expected = plain, NEVER
    if why == "dropout":
        engine, expected = keeping(plain), RANDOM
        kept_of(engine).is_usable = False
    if why == "in turn":
        family = replace(plain.base.family, shared_forward=None)
        engine, expected = replace(keeping(plain), base=replace(plain.base, family=family)), IN_TURN
    trials = two_trials(engine, sources, make_spec, tmp_path)
    open_cohort(engine, trials).remove()
    assert written(trials) == [expected] * 2
    for trial in trials:
        trial.progress.step = 1
    later = as_begun(keeping(packed.plain_engine(sources)), trials)
    assert later == expected, "also where a resumed launch could keep"


def test_no_decision_is_written_for_a_record_of_an_earlier_version(
    sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    """Resumed with --cache off, it goes on without; later it goes on as it began."""
    engine = packed.plain_engine(sources)
    trials = two_trials(engine, sources, make_spec, tmp_path)
    for trial in trials:
        trial.progress.step = 1
    open_cohort(engine, trials).remove()
    assert written(trials) == [None, None]
    assert as_begun(keeping(engine), trials) == ALWAYS


@pytest.mark.parametrize("is_continued", [False, True])
def test_the_first_eval_of_a_continued_trial_is_not_counted(
    is_continued: bool, sources: Sources, make_spec: SpecMaker
) -> None:
    """It runs before the cohort is opened, and reads no entries."""
    parent = Source(path=Path("parent"), sha256="parent") if is_continued else None
    spec = spec_of(make_spec, 1).model_copy(update={"init_from": parent})
    found = decided(keeping(packed.plain_engine(sources)), spec, lambda: None, lambda: False)
    assert "asked in 1 evals" in found.reason and not found.evals


def test_evals_are_kept_apart_from_training(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    engine = keeping(packed.plain_engine(sources))
    cohort = opened(engine, spec_of(make_spec, 1, eval_every_steps=2), tmp_path)
    Clock(cohort)
    cohort.advance(never)
    computed = kept_of(engine).store.uses.computed
    assert cohort.keeping is not None and not cohort.keeping.training and computed > 0
    cohort.advance(never)
    cohort.remove()
    uses = kept_of(engine).store.uses
    assert uses.from_memory > 0 and uses.computed < 2 * computed


@pytest.mark.slow
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    """Also where steps take so long then that a new trial would not keep anything."""
    spec = spec_of(make_spec, 2, eval_every_steps=4)
    records = []
    for name, stop in (("whole", None), ("stopped", 3)):
        cohort = opened(keeping(packed.plain_engine(sources)), spec, tmp_path / name)
        Clock(cohort)
        if stop is not None:
            trial = stepped(cohort, stop).trials[0]
            cohort.remove()
            engine = keeping(packed.plain_engine(sources))
            again = [Trial(engine, spec, trial.record, trial.baseline, (), trial.constraint)]
            assert again[0].step == stop
            cohort = Cohort(engine, again)
            cohort.keeping = as_begun(engine, again)
            Clock(cohort, (PLAIN, 9.0, 9.0))
        records.append(cohort.trials[0].record)
        while cohort.trials:
            cohort.advance(never)
        cohort.remove()
        assert kept_of(cohort.engine).store.uses.from_memory > 0
    assert_same_outcome(*records)


@pytest.mark.slow
def test_cold_and_warm_files_run_the_same_passes(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    """A trial of one epoch, which would keep nothing in memory."""
    records = []
    for name in ("cold", "warm"):
        engine = keeping(packed.plain_engine(sources), directory=tmp_path / "files")
        cohort = opened(engine, spec_of(make_spec, 1), tmp_path / name)
        records.append(cohort.trials[0].record)
        while cohort.trials:
            cohort.advance(never)
        cohort.remove()
        assert (kept_of(engine).store.uses.from_file > 0) == (name == "warm")
    assert_same_outcome(*records)

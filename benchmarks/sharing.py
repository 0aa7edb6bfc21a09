"""Runs arms 1 to 4: trials alone, and cohorts that share nothing, the prefix, and the prefix and evals.

All arms run in this process on one resident base with the same threads, trials, steps, rows and evals; their order
rotates from repetition to repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.architecture import Architecture, Counts
from benchmarks.families import modelled
from benchmarks.flops import APART, SHARED, Cost
from benchmarks.timing import StepClock, begin_peak, largest_difference, now, peak_mb
from trainables.cohort.cohort import Cohort
from trainables.cohort.cuts import Cut, Member, passes
from trainables.constraint import CONSTRAINT
from trainables.engine import Engine
from trainables.guards import GUARDS
from trainables.probes.captions import captions
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import TrialSpec
from trainables.training.trial import Trial, open_trial

ArmName = Literal["solo", "apart", "shared", "batched"]
ARMS: tuple[ArmName, ...] = ("solo", "apart", "shared", "batched")
SHARES = {"apart": False, "shared": True, "batched": True}
ENDINGS = ("completed", "pruned")


@dataclass(frozen=True)
class Run:
    """One run of one arm; `step_seconds` is the mean time of one step of all its trials."""

    step_seconds: float
    makespan_seconds: float
    eval_seconds: float
    peak_mb: float
    losses: dict[str, list[float]]
    verdicts: dict[str, str]
    cut: Cut | None = None


@dataclass
class Bench:
    """An engine with its baseline, and a directory for records."""

    engine: Engine
    directory: Path
    runs: int = 0
    baseline: Baseline = field(init=False)

    def __post_init__(self) -> None:
        """Measure the base; this also warms up the evals."""
        scores, answers = self.engine.evaluator.measure(None)
        self.baseline = Baseline(scores.metrics, captions(self.engine.evaluator.data, answers), scores.counts)

    def open(self, spec: TrialSpec, stack: ExitStack) -> Trial:
        """Open a trial with a new record; the stack removes its adapter from the base."""
        self.runs += 1
        record = Record(self.directory / f"{self.runs}")
        record.create(spec)
        trial = open_trial(self.engine, spec, record, self.baseline, GUARDS, CONSTRAINT)
        assert isinstance(trial, Trial)
        stack.callback(trial.remove)
        return trial

    def cost(self, specs: Sequence[TrialSpec]) -> Cost:
        """Return the FLOP model of this base for the first batch of `specs`."""
        batch = self.engine.batches(self.engine.row_stream(specs[0], 0), specs[0], 0)[0]
        return Cost(Architecture.of(self.engine.base.model.config), Counts.of(batch))


def run_solo(bench: Bench, specs: Sequence[TrialSpec], last: int | None) -> Run:
    """Train the trials one after the other, each alone; with `last`, only up to that step and without an eval."""
    device = bench.engine.base.device
    begin_peak(device)
    began, steps, trials = now(device), 0.0, []
    for spec in specs:
        with ExitStack() as stack:
            trial, clock = bench.open(spec, stack), StepClock(device, last)
            trial.advance(clock)
            trials.append(trial)
            steps += _mean(clock.step_seconds)
    return _run(trials, steps, now(device) - began, None)


def run_cohort(bench: Bench, specs: Sequence[TrialSpec], last: int | None, arm: ArmName, cut: Cut | None) -> Run:
    """Train the trials as one cohort; without `cut` it calibrates one, which then counts in the makespan."""
    device = bench.engine.base.device
    begin_peak(device)
    began = now(device)
    with ExitStack() as stack:
        trials = []
        for spec in specs:
            trials.append(bench.open(spec, stack))
            trials[-1].adapter.remove()  # the next one is placed on a bare base
        cohort = Cohort(bench.engine, trials, cut, share=SHARES[arm])
        stack.callback(cohort.remove)
        cohort.eval_width = len(trials) if arm == "batched" else 1
        clock = StepClock(device, last)
        cohort.advance(clock)
        return _run(trials, _mean(clock.step_seconds), now(device) - began, cohort.cut)


def _run(trials: Sequence[Trial], steps: float, makespan: float, cut: Cut | None) -> Run:
    verdicts = {trial.spec.name: trial.record.verdict() for trial in trials}
    broken = [f"{name} {verdict}: {verdict.reason}" for name, verdict in verdicts.items()
              if verdict and verdict.kind not in ENDINGS]  # fmt: skip
    if broken:
        raise RuntimeError(f"every trial must train to its end to be timed, but {'; '.join(broken)}")
    return Run(
        step_seconds=steps,
        makespan_seconds=makespan,
        eval_seconds=sum(trial.progress.eval_seconds for trial in trials),
        peak_mb=peak_mb(trials[0].engine.base.device),
        losses={trial.spec.name: [one.loss for one in trial.monitor.history] for trial in trials},
        verdicts={name: str(verdict) for name, verdict in verdicts.items()},
        cut=cut,
    )


@dataclass
class ArmFigures:
    """The figures of all runs of one arm on one family; `flops` are the FLOP model's for one step of all its trials."""

    arm: str
    flops: float
    step_seconds: list[float] = field(default_factory=list)
    makespan_seconds: list[float] = field(default_factory=list)
    eval_seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    loss_difference: float = 0.0
    same_verdicts: bool = True
    widths: str = "-"


def measure_family(
    bench: Bench, specs: Sequence[TrialSpec], repeats: int, whole_repeats: int, say: Callable[[str], None]
) -> list[ArmFigures]:
    """Run all arms on one family, interleaved; the first `whole_repeats` repetitions with calibration and evals.

    The other repetitions time training steps only, without the arm `batched`, whose steps are those of `shared`.
    """
    runs: dict[ArmName, list[tuple[bool, Run]]] = {arm: [] for arm in ARMS}
    for repeat in range(repeats):
        whole = repeat < whole_repeats
        present = ARMS if whole else ARMS[:-1]
        for arm in (*present[repeat % len(present) :], *present[: repeat % len(present)]):
            last = None if whole else specs[0].steps - 1
            known = runs[arm][0][1].cut if runs[arm] and not whole else None
            one = run_solo(bench, specs, last) if arm == "solo" else run_cohort(bench, specs, last, arm, known)
            runs[arm].append((whole, one))
            say(f"{arm} {one.step_seconds:.3f} s a step" + (f", {one.makespan_seconds:.1f} s whole" if whole else ""))
    cost, reference = bench.cost(specs), runs["solo"][0][1]
    return [_figures(arm, found, specs, cost, reference) for arm, found in runs.items() if found]


def _figures(
    arm: ArmName, runs: Sequence[tuple[bool, Run]], specs: Sequence[TrialSpec], cost: Cost, reference: Run
) -> ArmFigures:
    first = runs[0][1]
    found = ArmFigures(arm, _flops(arm, specs, cost, first.cut))
    for whole, run in runs:
        found.step_seconds.append(run.step_seconds)
        if whole:
            found.makespan_seconds.append(run.makespan_seconds)
            found.eval_seconds.append(run.eval_seconds)
        found.loss_difference = max(found.loss_difference, largest_difference(reference.losses, run.losses))
        found.same_verdicts = found.same_verdicts and (not whole or run.verdicts == reference.verdicts)
    found.peak_mb = max(run.peak_mb for _, run in runs)
    if first.cut:
        counts = [len(numbers) for numbers in passes(_members(specs), first.cut)]
        found.widths = "+".join(map(str, counts))
    return found


def _flops(arm: ArmName, specs: Sequence[TrialSpec], cost: Cost, cut: Cut | None) -> float:
    arms = [modelled(spec) for spec in specs]
    if cut is None:
        return sum(cost.solo(one) for one in arms)
    return cost.passes(arms, passes(_members(specs), cut), SHARED if SHARES[arm] else APART)


def _members(specs: Sequence[TrialSpec]) -> list[Member]:
    return [Member(number, one.placement.language, one.placement.vision) for number, one in enumerate(specs)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

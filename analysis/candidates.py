"""The candidates of an experiment: every eval of every arm, over its seeds, with results by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.mlflow_runs import TrialRun
from analysis.placements import PlacementRuns
from trainables.measurement import AVERAGE, FULL_STRENGTH, Measurement
from trainables.probes.metric import RowResults
from trainables.typed import typed


@dataclass(frozen=True)
class SeedEval:
    """One eval of one seed of an arm."""

    trial: TrialRun
    seed: str
    measured: Measurement

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the metrics."""
        return self.measured.metrics

    @property
    def rows(self) -> Mapping[str, RowResults]:
        """Return the results by row of each metric that is a mean over rows; empty for old records."""
        return self.measured.rows


@dataclass(frozen=True)
class Candidate:
    """An adapter that could be shipped: an arm at a step, at full strength, scaled, or averaged over evals.

    `scale` is `1`, a smaller number, or `average`. `stopped` are the seeds that ended without an eval at this step (a
    guard or a check stopped them before it): they count as not admissible here.
    """

    arm: str
    step: int
    scale: str
    evals: tuple[SeedEval, ...]
    stopped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return arm, step and, if it is derived, its scale: `C2 @ 60`, `C2 @ 60 x 0.5`, `C2 @ 90 average`."""
        return f"{self.arm} {self.at}"

    @property
    def at(self) -> str:
        """Return the name without the arm: `@ 60 x 0.5`."""
        if self.scale == FULL_STRENGTH:
            return f"@ {self.step}"
        return f"@ {self.step} {self.scale if self.scale == AVERAGE else f'x {self.scale}'}"

    @property
    def is_derived(self) -> bool:
        """True when no training step ended with these weights."""
        return self.scale != FULL_STRENGTH


def candidates_of(placement: PlacementRuns, measured: Mapping[str, Sequence[Measurement]]) -> tuple[Candidate, ...]:
    """Return the candidates of a placement, in order of step and scale.

    Args:
        placement: the trials of an arm that differ only in their seed.
        measured: the measurements of each trial by run id, as `read_logged` returns them.
    """
    by_key: dict[tuple[int, str], list[SeedEval]] = {}
    ended = {}
    for one in placement.seed_runs:
        seed, evals = str(one.seed), [e for e in measured[one.trial.run_id] if e.kind == "eval"]
        if one.trial.verdict_kind not in (None, "completed"):
            ended[seed] = max((e.step for e in evals), default=-1)
        for e in evals:
            if e.step > 0 or placement.is_baseline:
                by_key.setdefault((e.step, e.scale), []).append(SeedEval(one.trial, seed, e))
    return tuple(
        Candidate(placement.label, step, scale, tuple(by_key[step, scale]), _stopped_before(step, ended))
        for step, scale in sorted(by_key)
    )


def _stopped_before(step: int, ended: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(seed for seed, last in ended.items() if last < step)


def metrics_by_row(candidates: Iterable[Candidate]) -> frozenset[str]:
    """Return the metrics of which every eval has results by row."""
    names = [frozenset(one.rows) for candidate in candidates for one in candidate.evals]
    return frozenset.intersection(*names) if names else frozenset()


def holdout_command(experiment: str, picks: Iterable[Candidate], options: Sequence[str] = ()) -> str:
    """Return the command that measures picks on the holdout, with further options."""
    return _command("holdout", experiment, picks, options)


def finalists_command(experiment: str, candidates: Iterable[Candidate], options: Sequence[str] = ()) -> str:
    """Return the command that asks candidates all irrelevant rows, with further options."""
    return _command("finalists", experiment, candidates, options)


def _command(name: str, experiment: str, candidates: Iterable[Candidate], options: Sequence[str]) -> str:
    named = [word for one in candidates for each in _typed_names(one) for word in ("--candidate", each)]
    return typed(name, "--experiment", experiment, *named, *options)


def _typed_names(one: Candidate) -> list[str]:
    """Return the names of a candidate: its trials', where its arm alone would also name trials of other settings."""
    if all(each.trial.arm == one.arm for each in one.evals):
        return [one.name]
    return [replace(one, arm=each.trial.name).name for each in one.evals]

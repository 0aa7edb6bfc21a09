"""Groups the seeds of a placement, and decides which trials may be compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from analysis.mlflow_runs import ExperimentRuns, TrialRun, Value
from analysis.objectives import BASELINE_PRICES
from trainables.pareto import Objective
from trainables.record import Record

REPLAY = ("replay_ratio", "replay")
State = Literal["admissible", "excluded", "running"]

# prefixes of parameters in labels, which tell apart placements of one arm
SHORT_NAMES = {
    "language_layers": "L",
    "vision_blocks": "V",
    "language_indices": "L",
    "vision_indices": "V",
    "modules": "",
    "rank": "r",
    "alpha": "alpha ",
    "dropout": "dropout ",
    "rslora": "rslora ",
    "learning_rate": "rate ",
    "vision_learning_rate": "vision rate ",
    "quantization": "",
    "replay_ratio": "mix ",
    "replay": "of ",
    "steps": "steps ",
    "effective_rows": "rows ",
    "run": "#",
}


@dataclass(frozen=True)
class SeedRun:
    """One trial (one seed) of a placement.

    `values` are in the order of the objectives, NaN where one is missing; all are finite if the trial is admissible.
    """

    trial: TrialRun
    state: State
    reason: str
    values: tuple[float, ...]

    @property
    def seed(self) -> Value:
        """Return the seed, or the trial's id where none was logged."""
        return self.trial.parameters.get("seed", self.trial.trial_id)


@dataclass(frozen=True)
class PlacementRuns:
    """Trials that differ only in the seed; `label` is unique within an experiment."""

    label: str
    arm: str
    parameters: Mapping[str, Value]
    seed_runs: tuple[SeedRun, ...]
    is_baseline: bool

    @property
    def is_placed(self) -> bool:
        """Return whether the adapted layers are known; those of results that were not made here are not."""
        return not {"language_layers", "vision_blocks"}.isdisjoint(self.parameters)

    @property
    def where(self) -> str:
        """Return the adapted layers as `L2·V4`, or `?` where they were not logged; `L2[0, 1]·V0·mlp` lists some."""
        listed = (self.parameters.get(key, "") for key in ("language_indices", "vision_indices"))
        counts = (self.parameters.get(key, "?") for key in ("language_layers", "vision_blocks"))
        parts = [f"{tower}{count}{some}" for tower, count, some in zip("LV", counts, listed, strict=True)]
        return "·".join([*parts, *([str(self.parameters["modules"])] if "modules" in self.parameters else [])])

    def admissible(self) -> list[SeedRun]:
        """Return the admissible seeds."""
        return [seed_run for seed_run in self.seed_runs if seed_run.state == "admissible"]

    def last_mean(self, name: str) -> float | None:
        """Return the mean over seeds of a metric of the last eval, or None where no seed has it."""
        values = [seed_run.trial.last[name] for seed_run in self.seed_runs if name in seed_run.trial.last]
        return sum(values) / len(values) if values and all(map(math.isfinite, values)) else None


def placements_of(experiment: ExperimentRuns, objectives: Sequence[Objective]) -> tuple[PlacementRuns, ...]:
    """Group the trials of an experiment by arm and every logged parameter but the seed; ordered by label.

    Two trials with the same seed and the same logged parameters differ in something that is not logged, so each is a
    separate placement.
    """
    shared: dict[tuple, list[TrialRun]] = defaultdict(list)
    for trial in experiment.trials:
        shared[(trial.arm, *_but_seed(trial).items())].append(trial)
    placements = []
    for trials in shared.values():
        for together in [trials] if _seeds_differ(trials) else [[trial] for trial in trials]:
            placements.append(_placement(together, experiment.baseline_ids, objectives))
    return tuple(sorted(_with_unique_labels(placements), key=lambda one: one.label))


def _placement(
    trials: Sequence[TrialRun], baseline_ids: frozenset[str], objectives: Sequence[Objective]
) -> PlacementRuns:
    parameters = _but_seed(trials[0])
    layers = (parameters.get("language_layers"), parameters.get("vision_blocks"))
    is_baseline = layers == (0, 0) or trials[0].trial_id in baseline_ids
    seed_runs = tuple(seed_run_of(trial, objectives, is_baseline) for trial in trials)
    return PlacementRuns(trials[0].arm, trials[0].arm, parameters, seed_runs, is_baseline)


def seed_run_of(trial: TrialRun, objectives: Sequence[Objective], is_baseline: bool = False) -> SeedRun:
    """Judge one trial: admissible if it completed, an eval met the constraint, and every objective is finite."""
    values = tuple(_value(trial, objective, is_baseline) for objective in objectives)
    if trial.verdict_kind is None:
        ended = trial.run_status not in ("RUNNING", "SCHEDULED")
        reason = f"ended without a verdict (run status {trial.run_status})" if ended else "running"
        return SeedRun(trial, "excluded" if ended else "running", reason, values)
    if trial.verdict_kind != "completed":
        reason = f"{trial.verdict}: {trial.verdict_reason}" if trial.verdict_reason else str(trial.verdict)
        return SeedRun(trial, "excluded", reason + _kept_checkpoint(trial, objectives), values)
    if not trial.best and not is_baseline:
        return SeedRun(trial, "excluded", "no eval met the constraint", values)
    for objective, value in zip(objectives, values, strict=True):
        if not math.isfinite(value):
            return SeedRun(trial, "excluded", _not_finite(trial, objective), values)
    return SeedRun(trial, "admissible", "", values)


def _value(trial: TrialRun, objective: Objective, is_baseline: bool) -> float:
    if is_baseline:
        return {**BASELINE_PRICES, **trial.last, **trial.best}.get(objective.name, math.nan)
    return (trial.last if objective.is_price else trial.best).get(objective.name, math.nan)


def _not_finite(trial: TrialRun, objective: Objective) -> str:
    source = trial.last if objective.is_price else trial.best
    prefix = "final" if objective.is_price else "best"
    if objective.name in source:
        return f"`{prefix}/{objective.name}` must be finite, but is {source[objective.name]}"
    return f"`{prefix}/{objective.name}` was not logged"


def _kept_checkpoint(trial: TrialRun, objectives: Sequence[Objective]) -> str:
    fit = objectives[1].name
    if fit not in trial.best or not math.isfinite(trial.best[fit]):
        return ""
    return f" (step {trial.best_step or '?'} still met the constraint: {fit} {trial.best[fit]:.3g})"


def _but_seed(trial: TrialRun) -> dict[str, Value]:
    without_replay = () if trial.parameters.get("replay_ratio") else REPLAY  # as in runs of earlier versions
    return {key: value for key, value in trial.parameters.items() if key not in ("seed", *without_replay)}


def _seeds_differ(trials: Sequence[TrialRun]) -> bool:
    seeds = [trial.parameters.get("seed") for trial in trials]
    return len(set(seeds)) == len(seeds)


def recorded(trial: TrialRun) -> Record | None:
    """Return the record of a trial, None if it is not on this machine."""
    return Record(Path(trial.record)) if trial.record and Path(trial.record).is_dir() else None


def _with_unique_labels(placements: Iterable[PlacementRuns]) -> list[PlacementRuns]:
    """Label each placement by its arm, followed by the parameters that differ if several placements share the arm."""
    by_arm: dict[str, list[PlacementRuns]] = defaultdict(list)
    for placement in placements:
        by_arm[placement.arm].append(placement)
    named = []
    for arm, siblings in by_arm.items():
        values = {key: {one.parameters.get(key) for one in siblings} for key in SHORT_NAMES}
        values["replay"].discard(None)  # a single file needs no name beside its share
        varying = [key for key, found in values.items() if len(found) > 1]
        labels = [
            " ".join([arm, *(_short(key, one.parameters[key]) for key in varying if key in one.parameters)])
            for one in siblings
        ]
        for placement, label in zip(siblings, labels, strict=True):
            unique = label if labels.count(label) == 1 else f"{label} #{placement.seed_runs[0].trial.trial_id[:6]}"
            named.append(replace(placement, label=unique))
    return named


def _short(key: str, value: Value) -> str:
    return f"{SHORT_NAMES[key]}{value:g}" if isinstance(value, float) else f"{SHORT_NAMES[key]}{value}"

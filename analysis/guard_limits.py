"""Finds the limit that a guard set on a metric, from the verdicts of an experiment."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from analysis.mlflow_runs import ExperimentRuns, TrialRun
from trainables.constraint import Constraint, constraint_of
from trainables.decision import Guard
from trainables.guards import guard_of
from trainables.io.files import read_json
from trainables.record import Measurement, Record


def guard_limit(experiment: ExperimentRuns, metric: str) -> float | None:
    """Return the limit on `metric` at which a guard stopped trials; None when no limit or several are known.

    Verdicts of earlier versions hold no limit. It is then computed from the guards in the experiment's `study.json` and
    the baseline, if both can be read.
    """
    stopped = [one for one in experiment.trials if one.verdict_kind == "pruned" and one.verdict_cause == metric]
    found: set[float] = set()
    for trial in stopped:
        found |= {trial.verdict_limit} if trial.verdict_limit is not None else _declared(experiment, trial)
    return found.pop() if len(found) == 1 else None


def _declared(experiment: ExperimentRuns, trial: TrialRun) -> set[float]:
    baselines = [
        one.last
        for one in experiment.trials
        if one.trial_id in experiment.baseline_ids
        and one.parameters.get("quantization") == trial.parameters.get("quantization")
    ]
    study = Path(trial.record).parent.parent / "study.json" if trial.record else None
    if study is None or not study.is_file() or not baselines or trial.verdict_cause not in baselines[0]:
        return set()
    guards = [guard_of(one) for one in read_json(study)["guards"] if one["metric"] == trial.verdict_cause]
    limits = {guard.limit(Measurement("eval", 0, baselines[0]), ()) for guard in guards if guard is not None}
    return {limit for limit in limits if limit is not None}


def guards_of(record: Record) -> list[Guard]:
    """Return the guards of the experiment of a record, as its `study.json` holds them; empty if it is not there."""
    study = record.home.resolve().parent.parent / "study.json"
    declared = read_json(study)["guards"] if study.is_file() else []
    return [guard for guard in map(guard_of, declared) if guard is not None]


def constraint_of_record(record: Record) -> Constraint | None:
    """Return the constraint of the experiment of a record, None if its `study.json` is not there or holds none."""
    study = record.home.resolve().parent.parent / "study.json"
    return constraint_of(read_json(study).get("constraint", {})) if study.is_file() else None


def declared_limits(record: Record, baseline: Measurement | None) -> list[str]:
    """Return a sentence for each guard of a record's experiment: its metric, its limit if known, and its settings."""
    lines = []
    for guard in guards_of(record):
        limit = guard.limit(baseline, ()) if baseline and guard.metric in baseline.metrics else None
        settings = ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in asdict(guard).items() if key != "metric"
        )
        lines.append(
            f"{guard.metric}{'' if limit is None else f', limit {limit:.3g}'}: {type(guard).__name__}, {settings}"
        )
    return lines

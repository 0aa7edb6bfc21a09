"""Finds the limit that a guard set on a metric, from the verdicts of an experiment."""

from __future__ import annotations

from pathlib import Path

from analysis.mlflow_runs import ExperimentRuns, TrialRun
from trainables.guards import guard_of
from trainables.io.files import read_json
from trainables.record import Measurement


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

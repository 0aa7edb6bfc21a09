"""Tests the candidates of an experiment: which evals of which seeds they hold, and that MLflow keeps results by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.candidates import Candidate, candidates_of, metrics_by_row
from analysis.logged_measurements import read_logged
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from analysis.placements import placements_of
from sweeps.tracking.tracker import Tracker
from trainables.errors import UserError
from trainables.probes.metric import Proportion, RowResults
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

PASSES = RowResults({"door": 1.0, "chart": 0.0})
LOSS = RowResults({"v1": 2.0, "v2": 0.5}, {"v1": 3.0, "v2": 1.0})


def measured(step: int, scale: str = "1") -> Measurement:
    metrics = {"irrelevant_pass": 0.5, "exact_match": 0.1 * step, "eval_loss": LOSS.mean}
    counts = {"irrelevant_pass": Proportion(1, 2)}
    return Measurement("eval", step, metrics, counts, {"irrelevant_pass": PASSES, "eval_loss": LOSS}, scale)


def found(experiment: ExperimentRuns, runs: dict[str, list[Measurement]], objectives) -> dict[str, Candidate]:
    placements = placements_of(experiment, objectives)
    return {one.name: one for placement in placements for one in candidates_of(placement, runs)}


def test_every_eval_and_every_derived_copy_is_a_candidate(
    make_trial: Callable[..., TrialRun], make_experiment: Callable[..., ExperimentRuns], objectives
) -> None:
    first, second = (make_trial(f"C2-L2-V4-s{seed}", parameters={"seed": seed}) for seed in (1, 2))
    runs = {
        first.run_id: [measured(2), measured(4), measured(4, "0.5"), Measurement("train", 4, {})],
        second.run_id: [measured(2), measured(4), measured(4, "average")],
    }
    candidates = found(make_experiment(first, second), runs, objectives)
    assert list(candidates) == ["C2 @ 2", "C2 @ 4 x 0.5", "C2 @ 4", "C2 @ 4 average"]
    assert [len(one.evals) for one in candidates.values()] == [2, 1, 2, 1]
    assert [one.is_derived for one in candidates.values()] == [False, True, False, True]
    assert metrics_by_row(candidates.values()) == {"irrelevant_pass", "eval_loss"}


def test_a_seed_that_was_stopped_counts_at_every_later_step(
    make_trial: Callable[..., TrialRun], make_experiment: Callable[..., ExperimentRuns], objectives
) -> None:
    whole = make_trial("C2-L2-V4-s1", parameters={"seed": 1})
    stopped = make_trial("C2-L2-V4-s2", parameters={"seed": 2}, verdict="pruned(blindness)", verdict_kind="pruned")
    runs = {whole.run_id: [measured(step) for step in (2, 4, 6)], stopped.run_id: [measured(2), measured(4)]}
    candidates = found(make_experiment(whole, stopped), runs, objectives)
    assert [one.stopped for one in candidates.values()] == [(), (), ("2",)]
    assert [len(one.evals) for one in candidates.values()] == [2, 2, 1]


def test_results_by_row_are_read_back_from_mlflow(tmp_path: Path) -> None:
    sources = {key: Source(path=tmp_path / key, sha256=key) for key in ("base", "train", "validation", "ood")}
    for path in tmp_path.glob("*"):
        path.touch()
    spec = TrialSpec(name="C2-s1", placement=Placement(language=2), steps=4, **sources)
    record = Record(tmp_path / "runs" / "stage4" / "trials" / f"{spec.name}-{spec.trial_id}")
    record.create(spec)
    for one in (measured(2), measured(4)):
        record.append(one)
    record.close(Verdict(kind="completed", step=4))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = Tracker(uri, "stage4")
    tracker.open_launch("test", {})
    tracker.sync(record)
    logged = read_logged("stage4", uri)
    (run,) = logged.runs.trials
    assert logged.trained[run.run_id] == [measured(2), measured(4)]
    artifact = next((tmp_path / "mlruns").rglob("metrics.jsonl"))
    artifact.write_text(artifact.read_text().replace("0.5", "0.6"))
    with pytest.raises(UserError, match="every line must match its checksum"):
        read_logged("stage4", uri)

"""Tests that the analysis reads what the tracker writes, through a real MLflow store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analysis.frontier import frontier_info
from analysis.logged_measurements import read_logged
from analysis.objectives import frontier_objectives
from sweeps.tracking.sync import sync_all
from trainables.io.files import write_json
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

REASON = "irrelevant_pass 0.40 < 0.80 for 2 evals (baseline 1.00)"


def write_record(
    root: Path, name: str, layers: tuple[int, int], fit: float, seed: int = 0, **verdict: str | float
) -> None:
    """Write the record of a trial with two evals; the first is the best admissible one, if any is."""
    sources = {key: Source(path=root / key, sha256=key * 8) for key in ("base", "train", "validation", "ood")}
    placement = Placement(language=layers[0], vision=layers[1])
    spec = TrialSpec(name=name, arm=name.split("-", maxsplit=1)[0], placement=placement, seed=seed, **sources)
    record = Record(root / "trials" / f"{name}-{spec.trial_id}")
    record.create(spec)
    for step in (30, 60):
        metrics = {"irrelevant_pass": 1.0, "exact_match": fit if step == 30 else fit / 2, "adapter_parameters": 500.0}
        metrics["crop_consistency"] = step / 100
        record.append(Measurement("train", step, {"step_loss": 0.5, "train_seconds": float(step)}))
        record.append(Measurement("eval", step, metrics))
    if not placement.is_baseline and not verdict:
        with record.saving("best") as directory:
            best = {"irrelevant_pass": 1.0, "exact_match": fit}
            write_json(directory / "provenance.json", {"step": 30, "metrics": best})
    if not placement.is_baseline:
        met = {"minimum": {"met": True}, "optimal": {"met": False}}
        write_json(record.directory / "labels.json", {**met, "degraded": [{"check": "gradient_spikes"}] * bool(seed)})
        write_json(record.directory / "overridden.json", [{"check": "coverage"}, {"check": "usable_rate"}])
    record.close(Verdict.model_validate({"kind": "completed", "step": 60} | verdict))


@pytest.fixture
def mirrored(migrated_database: Path, tmp_path: Path) -> str:
    uri = f"sqlite:///{shutil.copy(migrated_database, tmp_path / 'mlflow.db')}"
    write_record(tmp_path, "A0-L0-V0", (0, 0), 0.2)
    write_record(tmp_path, "C2-L2-V4", (2, 4), 0.8, seed=0)
    write_record(tmp_path, "C2-L2-V4", (2, 4), 0.9, seed=1)
    write_record(tmp_path, "D3-L4-V6", (4, 6), 0.9, kind="pruned", cause="irrelevant_pass", reason=REASON, limit=0.8)
    sync_all(tmp_path, uri, "stage4")
    return uri


def test_the_tracker_writes_what_the_analysis_reads(mirrored: str):
    experiment = read_logged("stage4", mirrored).runs
    info = frontier_info(experiment, frontier_objectives("irrelevant_pass", "exact_match", ()))
    results = {one.placement.label: one for one in info.results}
    assert {label: one.kind for label, one in results.items()} == {
        "C2": "frontier",
        "A0": "baseline",
        "D3": "excluded",
    }
    assert results["C2"].estimates[1].mean == pytest.approx(0.85)
    assert results["C2"].gain == pytest.approx(0.85 - 0.1)
    assert results["C2"].placement.last_mean("train_seconds") == 60.0
    assert results["D3"].reason == f"pruned(irrelevant_pass): {REASON}"
    assert info.floor == 0.8
    best = next(one for one in experiment.trials if one.arm == "C2").best
    assert best["crop_consistency"] == 0.3, "MLflow's table has only what decides; the rest is in the run's files"
    assert experiment.newest_launch_run_id is not None
    labels = {(one.name, one.criteria, one.degraded, one.overridden) for one in experiment.trials}
    forced = ("coverage", "usable_rate")
    assert labels == {
        ("A0-L0-V0", None, (), ()),
        ("C2-L2-V4", "minimum", (), forced),
        ("C2-L2-V4", "minimum", ("gradient_spikes",), forced),
        ("D3-L4-V6", "minimum", (), forced),
    }
    assert [len(experiment.baseline_ids), len(experiment.trials)] == [1, 4]

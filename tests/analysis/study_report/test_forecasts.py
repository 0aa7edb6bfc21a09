"""Tests that the report puts what a trial took beside what it was forecast to take."""

from __future__ import annotations

from pathlib import Path

from planned_trials import trial

from analysis.study_report.forecasts import HEADER, forecast_rows
from trainables.io.files import write_json
from trainables.measurement import Measurement
from trainables.record import Record


def test_a_trial_with_a_forecast_has_a_row_and_one_without_has_none(tmp_path: Path) -> None:
    records = []
    for seed in (0, 1):
        spec = trial(seed=seed)
        records.append(Record(tmp_path / "trials" / f"C2-{spec.trial_id}"))
        records[-1].create(spec)
        took = {"train_seconds": 30.0, "eval_seconds": 10.0, "peak_memory_mb": 2500.0}
        records[-1].append(Measurement("train", 10, took))
    assert forecast_rows(records) == []
    own = {"trial_id": records[0].spec().trial_id, "peak_bytes": 2_400_000_000, "flops": 8e12}
    write_json(tmp_path / "forecast.json", [own])
    fit = {"parts": 4, "checkpointing": False}
    change = {"step": 3, "reason": "CUDA out of memory", "fit": fit, "members": 1}
    write_json(records[0].directory / "memory.json", {"fit": fit, "changes": [change]})
    [row] = forecast_rows(records)
    told = dict(zip(HEADER, row, strict=True))
    assert (told["forecast GB"], told["measured GB"], told["seconds"]) == ("2.4", "2.5", "40")
    assert told["FLOPs a second"] == "2e+11" and "in 4 parts" in told["memory"]

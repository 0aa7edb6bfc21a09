"""Tests that winners are written as configurations of another tool, from their records."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from analysis.frontier import FrontierInfo, PlacementResult
from analysis.mlflow_runs import TrialRun
from analysis.objectives import frontier_objectives
from analysis.placements import PlacementRuns, SeedRun
from analysis.report.exporting import settings_of_winners, write_settings
from trainables import spec as specs
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.record import Record

MODULES = [f"model.language_model.layers.{layer}.self_attn.{one}_proj" for layer in (6, 7) for one in "qkvo"]


@pytest.fixture
def winner(tmp_path: Path) -> Record:
    """The record of A1, as a trial writes it."""
    sources = {
        key: specs.Source(path=Path(f"/data/{key}"), sha256=key) for key in ("base", "train", "validation", "ood")
    }
    record = Record(tmp_path / "A1-0")
    record.create(specs.parse_spec({"name": "A1", "placement": {"language": 2}, **sources}))
    write_json(record.directory / "placement.json", {"language": {"modules": MODULES}, "vision": {"modules": []}})
    return record


def info(record: Path | None, on_frontier: bool = True) -> FrontierInfo:
    trial = TrialRun(
        trial_id="0", name="A1", arm="A1", run_id="r", started_ms=0, run_status="FINISHED", verdict="completed",
        verdict_kind="completed", verdict_reason=None, best_step="4", record=str(record) if record else None,
        parameters={}, last={}, best={},
    )  # fmt: skip
    placement = PlacementRuns("A1 r=16", "A1", {}, (SeedRun(trial, "admissible", "", (1.0, 1.0)),), False)
    result = PlacementResult(placement, "frontier" if on_frontier else "dominated", on_frontier, "")
    objectives = frontier_objectives("irrelevant_pass", "exact_match", ())
    return FrontierInfo("stage4", tuple(objectives), (result,), None, None)


@pytest.mark.parametrize("tool", ["axolotl", "ms-swift", "llamafactory"])
def test_each_winner_is_a_file_of_its_own(winner: Record, tmp_path: Path, tool: str) -> None:
    (path,) = write_settings(settings_of_winners(info(winner.directory), tool), tmp_path)
    assert path.name == f"A1-r=16.{tool}.yaml"
    assert "16" in {
        str(value) for key, value in yaml.safe_load(path.read_text()).items() if key in {"lora_r", "lora_rank"}
    }


def test_an_impossible_export_is_an_error(winner: Record, tmp_path: Path) -> None:
    for asked, tool, output in (
        (info(winner.directory), "unsloth", "the tool must be one of axolotl, ms-swift, llamafactory"),
        (info(winner.directory, on_frontier=False), "axolotl", "no placement of `stage4` is on the frontier"),
        (info(tmp_path / "elsewhere"), "axolotl", "the settings of A1 are read from its record, but"),
        (info(None), "axolotl", "MLflow names none"),
    ):
        with pytest.raises(UserError, match=output):
            settings_of_winners(asked, tool)

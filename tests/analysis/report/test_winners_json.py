"""Tests `winners.json` against its reader in `sweeps`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from analysis.frontier import frontier_info
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from analysis.objectives import frontier_objectives
from analysis.report.winners_json import as_winners_json, winners_of

OBJECTIVES = frontier_objectives("irrelevant_pass", "exact_match", ())


def placed(language: int, vision: int) -> dict[str, int]:
    return {"language_layers": language, "vision_blocks": vision}


def test_winners_are_the_frontier_and_nothing_else(
    make_trial: Callable[..., TrialRun], make_baseline: Callable[..., TrialRun], tmp_path: Path
) -> None:
    trials = [
        make_baseline(),
        make_trial("C2", x=0.95, y=0.9, parameters=placed(2, 4), record="/runs/C2"),
        make_trial("B3", x=1.0, y=0.7, parameters=placed(0, 6)),
        make_trial("A1", x=0.9, y=0.6, parameters=placed(2, 0)),
        make_trial("D3", parameters=placed(4, 6), verdict="pruned(irrelevant_pass)", verdict_kind="pruned"),
    ]
    experiment = ExperimentRuns("stage4", None, frozenset({"A0-L0-V0"}), tuple(trials))
    found = winners_of(frontier_info(experiment, OBJECTIVES))
    assert found["experiment"] == "stage4"
    assert [(one["name"], one["language"], one["vision"]) for one in found["winners"]] == [("C2", 2, 4), ("B3", 0, 6)]
    assert found["winners"][0]["records"] == ["/runs/C2"]
    assert found["winners"][0]["settings"] == {"rank": 16, "quantization": "none"}

    from sweeps.planning.winners import with_winners
    from sweeps.stage4 import STUDY

    path = tmp_path / "winners.json"
    path.write_text(as_winners_json(frontier_info(experiment, OBJECTIVES)))
    assert json.loads(path.read_text()) == found
    arms = with_winners(STUDY, path, ()).arms
    assert [(arm.name, arm.language, arm.vision) for arm in arms] == [("A0", 0, 0), ("C2", 2, 4), ("B3", 0, 6)]

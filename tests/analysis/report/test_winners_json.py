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


def test_kinds_and_listed_layers_come_back_as_arms_of_their_own(
    make_trial: Callable[..., TrialRun], make_baseline: Callable[..., TrialRun], tmp_path: Path
) -> None:
    from sweeps.planning.winners import placement_of, with_winners
    from sweeps.stage4 import STUDY
    from trainables.placement import Placement

    first = {**placed(2, 0), "language_indices": "[0, 1]"}
    trials = [
        make_baseline(),
        make_trial("C2-mlp", arm="C2", x=0.95, y=0.9, parameters={**placed(2, 4), "modules": "mlp"}),
        make_trial("C2-attention", arm="C2", x=0.97, y=0.8, parameters={**placed(2, 4), "modules": "attention"}),
        make_trial("A1", x=1.0, y=0.7, parameters=first),
    ]
    experiment = ExperimentRuns("modules", None, frozenset({"A0-L0-V0"}), tuple(trials))
    info = frontier_info(experiment, OBJECTIVES)
    assert [one.placement.label for one in info.of_kind("frontier")] == ["C2 mlp", "C2 attention", "A1"]
    assert [one.placement.where for one in info.of_kind("frontier")] == [
        "L2·V4·mlp", "L2·V4·attention", "L2[0, 1]·V0",
    ]  # fmt: skip
    path = tmp_path / "winners.json"
    path.write_text(as_winners_json(info))
    arms = with_winners(STUDY, path, ()).arms[1:]
    assert [placement_of(arm) for arm in arms] == [
        Placement(language=2, vision=4, modules="mlp"),
        Placement(language=2, vision=4, modules="attention"),
        Placement(language=2, language_indices=(0, 1)),
    ]
    assert len({arm.name for arm in arms}) == 3

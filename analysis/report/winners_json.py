"""Writes `winners.json`, from which a next study narrows its space."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from analysis.decision.pick import Pick
from analysis.frontier import FrontierInfo, PlacementResult
from analysis.mlflow_runs import Value

SETTINGS = ("rank", "alpha", "dropout", "learning_rate", "vision_learning_rate", "quantization", "steps")

INDICES = ("language_indices", "vision_indices")


def winners_of(info: FrontierInfo) -> dict[str, Any]:
    """Return the pick, and the placements on the frontier, best task fit first, with settings and record paths."""
    winners = [_winner(one) for one in info.of_kind("frontier")]
    return {"experiment": info.experiment, "pick": pick_in_json(info.choice), "winners": winners}


def pick_in_json(choice: Pick | None) -> dict[str, Any] | None:
    """Return the picked candidate and the seed that is shipped, None where nothing is picked."""
    if choice is None or choice.picked is None or choice.shipped is None:
        return None
    one, shipped = choice.picked.candidate, choice.shipped.chosen
    return {"candidate": one.name, "arm": one.arm, "step": one.step, "scale": one.scale, "seed": shipped.seed,
            "trial": shipped.trial.name, "trial_id": shipped.trial.trial_id,
            "level": choice.level, "probability_of_change": choice.changes}  # fmt: skip


def tags_of_pick(choice: Pick | None) -> dict[str, str]:
    """Return the tags of MLflow that name the pick, empty where it has none; an earlier pick's are overwritten."""
    found = pick_in_json(choice)
    return {
        "pick": found["candidate"] if found else "nothing",
        "pick.trial": found["trial"] if found else "",
        "pick.level": f"{choice.level:g}" if choice else "",
        "pick.settled": str(choice.is_settled).lower() if choice and found else "",
    }


def as_winners_json(info: FrontierInfo) -> str:
    """Write the winners as JSON."""
    return json.dumps(winners_of(info), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _winner(result: PlacementResult) -> dict[str, Any]:
    placement = result.placement
    parameters = placement.parameters
    return {
        "name": placement.arm,
        "label": placement.label,
        "language": parameters.get("language_layers"),
        "vision": parameters.get("vision_blocks"),
        **_which_linears(parameters),
        "settings": {key: parameters[key] for key in SETTINGS if key in parameters},
        "records": [seed_run.trial.record for seed_run in placement.seed_runs],
    }


def _which_linears(parameters: Mapping[str, Value]) -> dict[str, Any]:
    """Return the kind of modules, and the layers where they are not the last; empty for all linears of the last."""
    listed = {key: json.loads(str(parameters[key])) for key in INDICES if key in parameters}
    return {**listed, **({"modules": parameters["modules"]} if "modules" in parameters else {})}

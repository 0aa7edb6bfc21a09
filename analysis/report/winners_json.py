"""Writes `winners.json`, from which a next study narrows its space."""

from __future__ import annotations

import json
from typing import Any

from analysis.frontier import FrontierInfo, PlacementResult

SETTINGS = ("rank", "alpha", "dropout", "learning_rate", "vision_learning_rate", "quantization", "steps")


def winners_of(info: FrontierInfo) -> dict[str, Any]:
    """Return the placements on the frontier, best task fit first, with their settings and record paths."""
    return {"experiment": info.experiment, "winners": [_winner(one) for one in info.of_kind("frontier")]}


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
        "settings": {key: parameters[key] for key in SETTINGS if key in parameters},
        "records": [seed_run.trial.record for seed_run in placement.seed_runs],
    }

"""The families of trials that are timed: Stage 4's arms by their letter, all of them, and variants of one arm."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from benchmarks.flops import Arm
from sweeps.stage4 import STUDY
from trainables.spec import Placement, TrialSpec

RATES, RANKS, SEEDS = (0.25, 0.5, 1.0, 2.0), (8, 16), (0, 1, 2)
PLACEMENTS = {arm.name: Placement(language=arm.language, vision=arm.vision) for arm in STUDY.arms if arm.name != "A0"}
NAMES = ("A", "B", "C", "D", "full", "A1x24")


def family(name: str, settings: Mapping[str, Any]) -> list[TrialSpec]:
    """Return the trials of a family; `settings` are all settings of a trial except name and placement."""
    if name == "A1x24":
        return [_variant(settings, *one) for one in product(RATES, RANKS, SEEDS)]
    arms = [arm for arm in PLACEMENTS if name == "full" or arm.startswith(name)]
    return [trial(arm, settings) for arm in arms]


def trial(arm: str, settings: Mapping[str, Any]) -> TrialSpec:
    """Return one arm of Stage 4 with the given settings."""
    return TrialSpec(name=arm, placement=PLACEMENTS[arm], **settings)


def modelled(spec: TrialSpec) -> Arm:
    """Return a trial as an arm of the FLOP model."""
    return Arm(spec.placement.language, spec.placement.vision, spec.rank)


def _variant(settings: Mapping[str, Any], rate: float, rank: int, seed: int) -> TrialSpec:
    return trial("A1", settings).model_copy(
        update={
            "name": f"A1-r{rank}-lr{rate:g}-s{seed}",
            "learning_rate": settings["learning_rate"] * rate,
            "rank": rank,
            "alpha": 2.0 * rank,
            "seed": seed,
        }
    )

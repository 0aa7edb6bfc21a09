"""How much of a pass two placements share: the frozen layers before the first that either of them adapts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeps.study import Study
from trainables.model.families.family import Towers
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.spec import Placement


@dataclass(frozen=True)
class Shared:
    """What a placement shares with an arm: vision blocks, and language layers on rows with and without pictures."""

    arm: str
    placement: str
    vision_blocks: int
    language_layers: int
    language_layers_without_pictures: int


@dataclass(frozen=True)
class Depths:
    """How many layers of each tower a pass computes before the first that carries LoRA."""

    language: int
    vision: int


def frozen_depths(placed: ResolvedPlacement, towers: Towers) -> Depths:
    """Return the cut points of a placement; without LoRA in a tower, the whole tower is frozen."""
    vision = _first_adapted({one.name for one in placed.linears["vision"]}, towers["vision"])
    names = {one.name for one in placed.linears["language"]}
    # the experts of a layer are no linears of it
    layers = [(*block, *more) for block, more in zip(towers["language"], _experts(towers), strict=True)]
    return Depths(_first_adapted(names, layers), vision)


def shared_with(own: Depths, study: Study, towers: Towers) -> Iterator[Shared]:
    """Return what a placement shares with each arm of a study that fits the base."""
    blocks = len(towers["vision"])
    for arm in study.arms:
        if not (arm.language or arm.vision) or arm.language > len(towers["language"]) or arm.vision > blocks:
            continue
        placement = Placement(language=arm.language, vision=arm.vision)
        other = frozen_depths(resolve(placement, towers), towers)
        language, vision = min(own.language, other.language), min(own.vision, other.vision)
        # once the picture features of two trials differ, every language layer does
        yield Shared(arm.name, str(placement), vision, language if vision == blocks else 0, language)


def _experts(towers: Towers) -> Sequence[Sequence[object]]:
    return getattr(towers, "experts", None) or [()] * len(towers["language"])


def _first_adapted(names: set[str], layers: Sequence[Sequence[object]]) -> int:
    held = ({getattr(one, "name", "") for one in layer} for layer in layers)
    return next((number for number, own in enumerate(held) if own & names), len(layers))

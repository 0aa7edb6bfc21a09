"""Tests that a pass from kept activations equals each trial alone, in float64, and skips what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import packed
import pytest
from frozen_room import keeping, kept_of
from small_trials import Sources, SpecMaker
from tiny_families import BLOCKS, LAYERS, TINY_VISION, vision_arms

from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch
from trainables.engine import Engine
from trainables.spec import Placement, TrialSpec

SourcesOf = Callable[[str], Sources]
GRADIENTS = 1e-10
MIXES: dict[str, list[tuple[int, int]]] = {
    "language": [(2, 0), (1, 0)],
    "unlike": [(1, 0), (3, 0), (0, 4)],
    "vision": [(0, 2), (1, 5)],
    "whole": [(4, 0), (8, 0)],
    "all": [(8, 12), (1, 0)],
}


@pytest.fixture
def double() -> Iterator[None]:
    with packed.all_double():
        yield


def furthest_from_solo(
    engine: Engine, specs: Sequence[TrialSpec], batches: dict[str, Batch], share: bool = True
) -> float:
    """Return the largest difference of losses and gradients from a trial alone, computing everything twice."""
    solo = [packed.alone(engine, spec, batches) for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), share, engine.kept)
    worst = 0.0
    try:
        for kind, batch in [*batches.items(), *batches.items()]:
            for number, (loss, gradients) in packed.packed(shared, range(len(specs)), batch).items():
                alone, expected = solo[number][kind]
                assert math.isfinite(alone)
                worst = max(worst, abs(loss - alone), packed.furthest(gradients, expected))
    finally:
        shared.remove()
    return worst


def arms(make: SpecMaker, depths: Sequence[tuple[int, int]], **changes: Any) -> list[TrialSpec]:
    return [
        make(name=f"L{language}-V{vision}", placement=Placement(language=language, vision=vision), seed=number,
             dropout=(0.1, 0.0)[number % 2], rank=(4, 8, 1)[number % 3], **changes)
        for number, (language, vision) in enumerate(depths)
    ]  # fmt: skip


@pytest.mark.parametrize("mix", MIXES)
def test_gradients_from_kept_activations_equal_those_of_a_trial_alone(
    mix: str, sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    engine = keeping(packed.double_engine(sources))
    assert furthest_from_solo(engine, arms(make_spec, MIXES[mix]), packed.batches(engine)) < GRADIENTS
    uses = kept_of(engine).store.uses
    assert uses.computed > 0 and uses.from_memory >= uses.computed


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=[pytest.mark.slow] * (one == "qwen2_vl")) for one in TINY_VISION]
)
@pytest.mark.parametrize(
    "depths", [[(1, 0), (LAYERS - 1, 0)], [(2, 0), (0, 3)], [(0, 2), (1, BLOCKS)], [(1, 1), (0, 4)]]
)
def test_every_vision_family_starts_from_kept_activations(
    family: str, depths: list[tuple[int, int]], vision_sources_of: SourcesOf, double: None
) -> None:
    sources = vision_sources_of(family)
    engine = keeping(packed.double_engine(sources))
    assert furthest_from_solo(engine, vision_arms(sources, depths), packed.batches(engine)) < GRADIENTS
    assert kept_of(engine).store.uses.computed > 0

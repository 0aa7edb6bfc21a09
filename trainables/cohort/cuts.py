"""Cuts a cohort into passes by parting depth: where each trial leaves the frozen trunk, which a pass computes once.

Trials that part late share most of a pass. One that parts early shares little with them, and makes the pass larger than
the caches or the memory of the device. Everything here is arithmetic on depths; `calibration.py` measures.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.data.encoding import Batch
from trainables.model.base import Base
from trainables.model.families import LinearShape
from trainables.spec import TrialSpec

UNEVEN = 0.05  # of the cost of one pass of all: what a cut may repeat more for passes of equal size
Edge = tuple[int, int]  # depths in the vision and the language tower of the first member of a band


@dataclass(frozen=True)
class Member:
    """A trial by its number in the cohort, with its depth in each tower, and its rank.

    A depth is the number of layers from the lowest adapted one to the last, whatever is adapted between; 0 for none.
    """

    number: int
    language: int
    vision: int
    rank: int = 0

    @classmethod
    def of(cls, number: int, spec: TrialSpec, base: Base) -> Member:
        """Return the trial of a spec on a base."""
        language, vision = (spec.placement.depth(tower, len(base.towers[tower])) for tower in ("language", "vision"))
        return cls(number, language, vision, spec.rank)

    @property
    def depth(self) -> Edge:
        """Return what members are ordered by: those that part late come first."""
        return self.vision, self.language


@dataclass(frozen=True)
class TowerDepths:
    """The towers that members share below their adapters.

    DeepStack adds image features to the first `taps` language layers. `block_cost` is the cost of a vision block on a
    batch, as a share of that of a language layer; 0 for a batch without images. With `kept`, activations below the
    lowest parting of a pass are at hand and cost nothing.
    """

    layers: int
    blocks: int
    taps: int = 0
    block_cost: float = 0.0
    kept: bool = False

    @classmethod
    def of(cls, base: Base, batches: Sequence[Batch], kept: bool = False) -> TowerDepths:
        """Return the towers of a base, with the cost of a vision block on the batches of a step."""
        language, vision = base.towers["language"], base.towers["vision"]
        patches = sum(len(batch.inputs.get("pixel_values", ())) for batch in batches)
        tokens = sum(batch.labels.numel() for batch in batches)
        cost = patches * _weights(vision[0]) / (tokens * _weights(language[0])) if vision and patches else 0.0
        taps = getattr(getattr(base.model.config, "vision_config", None), "deepstack_visual_indexes", ())
        return cls(len(language), len(vision), len(taps), cost, kept)


@dataclass(frozen=True)
class Cut:
    """How members are cut into passes: at depth `edges`, and between them into passes of at most `width` members."""

    edges: tuple[Edge, ...]
    width: int


ALONE = Cut((), 1)


def cut_in(fields: Mapping[str, Any]) -> Cut:
    """Return the cut that was kept as plain fields.

    Raises:
        KeyError, TypeError, ValueError: they are no cut.
    """
    edges, width = tuple((vision, language) for vision, language in fields["edges"]), fields["width"]
    if any(type(one) is not int or one < 0 for edge in edges for one in edge) or type(width) is not int or width < 1:
        raise ValueError(f"a cut must have whole numbers of layers and a width from 1 on, but got {edges}, {width}")
    return Cut(edges, width)


def passes(members: Sequence[Member], cut: Cut) -> list[tuple[int, ...]]:
    """Return the numbers of the members of each pass; the passes between two edges are of similar size."""
    bands: list[list[Member]] = [[] for _ in range(len(cut.edges) + 1)]
    for one in ordered(members):
        bands[sum(one.depth >= edge for edge in cut.edges)].append(one)
    split: list[tuple[int, ...]] = []
    for band in bands:
        count = -(-len(band) // cut.width)
        bounds = [len(band) * index // count for index in range(count + 1)] if band else []
        split += [tuple(one.number for one in band[low:high]) for low, high in itertools.pairwise(bounds)]
    return split


def ordered(members: Sequence[Member]) -> list[Member]:
    """Return the members by depth, those that part last first."""
    return sorted(members, key=lambda one: (*one.depth, one.number))


def narrower(cut: Cut | None, failed: int) -> Cut:
    """Return a cut into passes of at most half the `failed` number of members, which ran out of memory."""
    half = max(1, failed // 2)
    return Cut((), half) if cut is None else Cut(cut.edges, min(cut.width, half))


def candidates(members: Sequence[Member], towers: TowerDepths) -> list[Cut]:
    """Return the cuts that are worth a measurement: each alone, then those into 1, 2, 4, … passes, and by equal depths.

    The best cut into so many passes repeats little of the trunk and has passes of similar size.
    """
    in_order, cuts = ordered(members), [ALONE]
    depths = sorted({one.depth for one in in_order})
    for count in range(1, len(in_order)):
        if count.bit_count() == 1:
            cuts.append(_cut_at(in_order, _best_bounds(in_order, towers, count)))
        if count == len(depths):
            cuts.append(Cut(tuple(depths[1:]), len(in_order)))
    return list({tuple(passes(members, cut)): cut for cut in reversed(cuts)}.values())[::-1]


def forecast(members: Sequence[Member], towers: TowerDepths) -> float:
    """Return the cost of a pass in forward costs of a language layer; adapters and heads, equal in all cuts, aside."""
    seen = towers.block_cost > 0
    vision = [towers.blocks - one.vision if seen else towers.blocks for one in members]
    graphs = [0 if one.vision and seen else towers.layers - one.language for one in members]
    parted = [0 if seen and start < towers.taps else start for start in graphs]
    blocks = _tower(towers.blocks, vision, vision, towers.kept)
    return towers.block_cost * blocks + _tower(towers.layers, parted, graphs, towers.kept)


def _tower(blocks: int, parted: Sequence[int], graphs: Sequence[int], kept: bool) -> float:
    # forward: the trunk up to the last member that parts, then each member; backward: each from its own lowest adapter
    shared = max(parted) - (min(parted) if kept else 0)
    return shared + sum(blocks - one for one in parted) + sum(blocks - one for one in graphs)


def _best_bounds(members: Sequence[Member], towers: TowerDepths, count: int) -> tuple[int, ...]:
    """Return where to cut ordered members into `count` passes, by dynamic programming over the last cut."""
    total = len(members)
    uneven = UNEVEN * forecast(members, towers) / total**2
    cost = {
        (low, high): forecast(members[low:high], towers) + uneven * (high - low) ** 2
        for low, high in itertools.combinations(range(total + 1), 2)
    }
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, (0,))}
    for _ in range(count):
        best = {
            high: min((known + cost[low, high], (*bounds, high)) for low, (known, bounds) in best.items() if low < high)
            for high in range(1, total + 1)
            if any(low < high for low in best)
        }
    return best[total][1]


def _cut_at(members: Sequence[Member], bounds: Sequence[int]) -> Cut:
    edges = [members[bound].depth for bound in bounds[1:-1] if members[bound].depth != members[bound - 1].depth]
    return Cut(tuple(edges), max(high - low for low, high in itertools.pairwise(bounds)))


def _weights(block: Sequence[LinearShape]) -> int:
    return sum(linear.inputs * linear.outputs for linear in block)

"""What is said of a placement, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from sweeps.explaining.configuration import NamedBase
from sweeps.explaining.sharing import Depths, Shared, frozen_depths, shared_with
from sweeps.study import Study
from trainables.errors import UserError, nearest
from trainables.export.expressions import PlacedNames, ToolExpression, expressions
from trainables.limits import EXPERTS
from trainables.model.families import TOWERS, TowerName
from trainables.model.module_kinds import MODULE_KINDS, ModuleKind, modules_of_kind, own_name
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.model.stored_base import HEAD
from trainables.spec import Placement


@dataclass(frozen=True)
class PlacementQuestion:
    """What the user asks about: last layers of each tower, kind of module, rank, and a study to compare with."""

    placement: Placement
    modules: str
    rank: int
    study: Study


@dataclass(frozen=True)
class ExplainedTower:
    """One tower: its layers, those before the first with LoRA, its adapted modules, and their parameters."""

    layers: int
    frozen: int
    modules: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class Explanation:
    """A placement on a base; `experts` is the share of the weights that no quantization reaches."""

    base: str
    model_class: str
    weights: int
    experts: float
    compared: bool
    rank: int
    modules: str
    towers: Mapping[TowerName, ExplainedTower]
    study: str
    shares: bool
    shared: tuple[Shared, ...]
    expressions: tuple[ToolExpression, ...]


def explain(base: NamedBase, asked: PlacementQuestion) -> Explanation:
    """Explain a placement on a base.

    Raises:
        UserError: the placement does not fit the base, or the base has no module of this kind.
    """
    placed = placed_as_asked(base, asked)
    depths = frozen_depths(placed, base.towers)
    tied = HEAD if base.family.is_tied(base.config) else None
    every = sum(prod(shape) for name, shape in base.weights.items() if name != tied)
    shares, experts = base.family.shared_forward is not None, sum(map(prod, base.family.experts(base.config).values()))
    return Explanation(
        base=base.name,
        model_class=base.family.model_class,
        weights=every,
        experts=experts / every,
        compared=base.has_weights,
        rank=asked.rank,
        modules=asked.modules,
        towers={tower: _facts(tower, placed, depths, base, asked.rank) for tower in TOWERS if base.towers[tower]},
        study=asked.study.name,
        shares=shares,
        shared=tuple(shared_with(depths, asked.study, base.towers)) if shares else (),
        expressions=expressions(PlacedNames.of(placed, base.family.sees, bool(experts)), asked.rank),
    )


def placed_as_asked(base: NamedBase, asked: PlacementQuestion) -> ResolvedPlacement:
    """Return the modules that carry LoRA."""
    if asked.placement.is_baseline:
        raise UserError("a placement must adapt a layer, but --language and --vision are 0", "for example --language 2")
    return resolve(asked.placement, base.towers, _targets(base, asked))


def _targets(base: NamedBase, asked: PlacementQuestion) -> tuple[str, ...]:
    if asked.modules == EXPERTS:
        return (EXPERTS,)
    kind: ModuleKind | None = next((one for one in MODULE_KINDS if one == asked.modules), None)
    if kind is None:
        known = (*MODULE_KINDS, EXPERTS)
        raise UserError(f"--modules must be one of {', '.join(known)}, but got {asked.modules}",
                        nearest(asked.modules, known))  # fmt: skip
    if kind == "all":
        return ()
    depths = {"language": asked.placement.language, "vision": asked.placement.vision}
    found: list[str] = []
    for tower in TOWERS:
        blocks = base.towers[tower]
        own = list(dict.fromkeys(own_name(one.name) for block in blocks for one in block))
        of_kind = modules_of_kind(own, kind)
        if depths[tower] and blocks and not of_kind:
            raise UserError(
                f"the {tower} layers of {base.name} must have modules of the kind {kind}, but theirs are "
                f"{', '.join(own)}",
                f"--modules {EXPERTS} adapts the experts" if base.family.experts(base.config) else "choose another",
            )
        found += of_kind
    return tuple(dict.fromkeys(found))


def _facts(tower: TowerName, placed: ResolvedPlacement, depths: Depths, base: NamedBase, rank: int) -> ExplainedTower:
    return ExplainedTower(
        layers=len(base.towers[tower]),
        frozen=depths.language if tower == "language" else depths.vision,
        modules=tuple(one.name for one in placed.linears[tower]),
        parameters=placed.parameters(tower, rank),
    )

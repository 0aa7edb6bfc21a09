"""Resolves a placement: from the number of last layers in each tower to the exact modules that carry LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.errors import UserError
from trainables.limits import EXPERTS
from trainables.model.families import TOWERS, Blocks, LinearShape, TowerName
from trainables.model.families.family import ExpertTowers
from trainables.model.module_kinds import name_hint, whole_linears
from trainables.spec import Placement

BYTES_PER_ADAPTER_PARAMETER = 4  # adapters are trained and saved in float32


@dataclass(frozen=True)
class ResolvedPlacement:
    """The linears that carry LoRA, per tower."""

    linears: Mapping[TowerName, tuple[LinearShape, ...]]

    @property
    def module_names(self) -> tuple[str, ...]:
        """Return the full names of all adapted modules, language first."""
        return tuple(linear.name for tower in TOWERS for linear in self.linears[tower])

    def parameters(self, tower: TowerName, rank: int) -> int:
        """Return the number of parameters that LoRA trains in `tower`: the sum of rank x (inputs + outputs).

        A parameter of experts counts once for each of them.
        """
        return sum(rank * one.experts * (one.inputs + one.outputs) for one in self.linears[tower])

    def total_parameters(self, rank: int) -> int:
        """Return the number of parameters that LoRA trains in all towers."""
        return sum(self.parameters(tower, rank) for tower in TOWERS)

    def adapter_megabytes(self, rank: int) -> float:
        """Return the size of the saved adapter in MB (10^6 bytes)."""
        return self.total_parameters(rank) * BYTES_PER_ADAPTER_PARAMETER / 1e6

    def describe(self, rank: int) -> str:
        """Return one line with the number of adapted modules and parameters in each tower."""
        parts = [
            f"{tower} {len(self.linears[tower])} modules, {self.parameters(tower, rank):,} parameters"
            for tower in TOWERS
        ]
        return f"adapted at rank {rank}: " + "; ".join(parts)


def resolve(
    placement: Placement, towers: Mapping[TowerName, Blocks], target_modules: Sequence[str] = ()
) -> ResolvedPlacement:
    """Return the modules of the last layers of each tower; `target_modules` keeps only linears of these names.

    The name `experts` alone places LoRA on the experts of these language layers, and on no linear.

    Raises:
        UserError: the placement has more layers than a tower, or a target is not a linear of a placed layer.
    """
    if EXPERTS in target_modules:
        towers, target_modules = _only_experts(placement, towers), ()
    depths: dict[TowerName, int] = {"language": placement.language, "vision": placement.vision}
    for tower, depth in depths.items():
        if depth > len(towers[tower]):
            raise UserError(
                f"a placement must fit the towers of the base, but {placement} asks for the last {depth} of "
                f"{len(towers[tower])} {tower} layers",
                f"choose `{tower}` between 0 and {len(towers[tower])}",
            )
    placed: dict[TowerName, tuple[LinearShape, ...]] = {tower: _last(towers[tower], depths[tower]) for tower in TOWERS}
    return ResolvedPlacement(_only_targets(placed, target_modules) if target_modules else placed)


def _only_experts(placement: Placement, towers: Mapping[TowerName, Blocks]) -> dict[TowerName, Blocks]:
    experts = towers.experts if isinstance(towers, ExpertTowers) else ()
    if not any(experts):
        raise UserError(
            f"`{EXPERTS}` as a target needs a base with experts, but the layers of this base are dense",
            "name linears of its layers, or none for all of them",
        )
    if placement.vision:
        raise UserError(
            f"`{EXPERTS}` as a target places LoRA on experts alone, but {placement} also asks for vision blocks",
            "place no vision block",
        )
    if placement.language and not any(experts[len(experts) - placement.language :]):
        raise UserError(
            f"`{EXPERTS}` as a target needs a placed layer with experts, but the last {placement.language} are dense",
            "place more layers",
        )
    return {"language": experts, "vision": towers["vision"]}


def _only_targets(
    placed: Mapping[TowerName, tuple[LinearShape, ...]], target_modules: Sequence[str]
) -> dict[TowerName, tuple[LinearShape, ...]]:
    own = {tower: list(dict.fromkeys(_own_name(linear) for linear in linears)) for tower, linears in placed.items()}
    known = [name for names in own.values() for name in names]
    target_modules = whole_linears(target_modules, known)
    for name in target_modules if known else ():
        if name not in known:
            raise UserError(
                f"a target module must be a linear of a placed layer ({', '.join(known)}), but got `{name}`",
                name_hint(name, known),
            )
    for tower, names in own.items():
        if names and not set(names) & set(target_modules):
            raise UserError(
                f"every placed tower must have a target module, but {tower} has none of {', '.join(target_modules)}",
                f"its linears are {', '.join(names)}; or place no layer in it",
            )
    return {tower: tuple(one for one in linears if _own_name(one) in target_modules)
            for tower, linears in placed.items()}  # fmt: skip


def _own_name(linear: LinearShape) -> str:
    return linear.name.rsplit(".", 1)[-1]


def _last(blocks: Blocks, count: int) -> tuple[LinearShape, ...]:
    return tuple(linear for block in blocks[len(blocks) - count :] for linear in block)

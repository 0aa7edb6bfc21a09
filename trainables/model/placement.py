"""Resolves a placement: from the layers of each tower and the kind of linears to the exact modules that carry LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.errors import UserError
from trainables.limits import EXPERTS
from trainables.model.families import TOWERS, Blocks, LinearShape, TowerName
from trainables.model.families.family import ExpertTowers
from trainables.model.module_kinds import MODULE_KINDS, ModuleKind, is_of_kind, name_hint, own_name, whole_linears
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
    """Return the modules of the placed layers that are of its kind; `target_modules` keeps only linears of these names.

    The name `experts` alone places LoRA on the experts of these language layers, and on no linear.

    Raises:
        UserError: a tower lacks a placed layer, a placed layer has no linear of the kind, or a target is not a linear
            of a placed layer.
    """
    if EXPERTS in target_modules:
        towers, target_modules = _only_experts(placement, towers), ()
    placed: dict[TowerName, tuple[LinearShape, ...]] = {
        tower: tuple(
            linear
            for index in _checked_indices(placement, tower, len(towers[tower]))
            for linear in _of_kind(towers[tower][index], placement.modules, f"{tower} layer {index}")
        )
        for tower in TOWERS
    }
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
    placed = _checked_indices(placement, "language", len(experts))
    if placed and not any(experts[index] for index in placed):
        raise UserError(
            f"`{EXPERTS}` as a target needs a placed layer with experts, but those of {placement} are dense",
            "place more layers",
        )
    return {"language": experts, "vision": towers["vision"]}


def _checked_indices(placement: Placement, tower: TowerName, layers: int) -> tuple[int, ...]:
    if placement.count(tower) > layers:
        last = "" if placement.listed(tower) else " the last"
        raise UserError(
            f"a placement must fit the towers of the base, but {placement} asks for{last} {placement.count(tower)} of "
            f"{layers} {tower} layers",
            f"choose `{tower}` between 0 and {layers}",
        )
    indices = placement.indices(tower, layers)
    if beyond := [index for index in indices if index >= layers]:
        raise UserError(
            f"a placement must name layers of the base, but {placement} names {tower} layer {beyond[-1]} and the last "
            f"one is {layers - 1}",
            f"choose {tower} layers between 0 and {layers - 1}",
        )
    return indices


def _of_kind(block: Sequence[LinearShape], kind: ModuleKind, where: str) -> Sequence[LinearShape]:
    if kind == "all":
        return block
    found = [linear for linear in block if is_of_kind(own_name(linear.name), kind)]
    if not found:
        fitting = [one for one in MODULE_KINDS if any(is_of_kind(own_name(linear.name), one) for linear in block)]
        raise UserError(
            f"every placed layer must have a linear of the kind {kind}, but {where} has only "
            f"{', '.join(own_name(one.name) for one in block) or 'none'}",
            f"--modules {' or '.join(fitting)} fits it; or place no layer in this tower",
        )
    return found


def _only_targets(
    placed: Mapping[TowerName, tuple[LinearShape, ...]], target_modules: Sequence[str]
) -> dict[TowerName, tuple[LinearShape, ...]]:
    own = {tower: list(dict.fromkeys(own_name(linear.name) for linear in linears)) for tower, linears in placed.items()}
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
    return {tower: tuple(one for one in linears if own_name(one.name) in target_modules)
            for tower, linears in placed.items()}  # fmt: skip

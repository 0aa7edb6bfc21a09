"""Reads `--layers last,first-2,every-3,all,gradient` and `--modules mlp`, and chooses layers by such a rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from trainables.errors import UserError, items, named, nearest
from trainables.model.families import TOWERS, TowerName
from trainables.placement import MODULE_KINDS, ModuleKind, Placement

Rule = Literal["last", "first", "every", "all", "gradient"]
RULES: tuple[Rule, ...] = get_args(Rule)
RULE = re.compile(r"(?P<rule>[a-z]+)(?:-(?P<number>\d{1,9}))?")
EXAMPLE = "last,first,every-2,all,gradient"

Sizes = Mapping[TowerName, int]  # layers of each tower
Norms = Mapping[TowerName, tuple[float, ...]]  # of the gradient, layer by layer


@dataclass(frozen=True)
class LayerRule:
    """A rule that chooses layers of each placed tower.

    `number` is how many layers the rule takes in place of the arm's own count; after `every` it is the distance of two.
    """

    rule: Rule
    number: int = 0

    def __str__(self) -> str:
        return f"{self.rule}-{self.number}" if self.number else self.rule


LAST = LayerRule("last")


def layer_rule(text: str, where: str = "--layers") -> LayerRule:
    """Read one rule.

    Raises:
        UserError: it is unknown, or has a number that it cannot have.
    """
    found = RULE.fullmatch(text)
    rule: Rule | None = next((one for one in get_args(Rule) if found and one == found["rule"]), None)
    if found is None or rule is None:
        raise UserError(
            f"{where} must be rules among last, first, every-N, all and gradient, but got `{named(text)}`",
            nearest(text.partition("-")[0], RULES),
        )
    number = int(found["number"] or 0)
    if rule == "every" and not number:
        raise UserError(f"{where}: `every` needs a distance from 1 on, but got `{named(text)}`", "--layers every-2")
    if rule == "all" and found["number"]:
        raise UserError(f"{where}: `all` takes no number, but got `{named(text)}`", "--layers all")
    if found["number"] and not number:
        raise UserError(
            f"{where}: `{rule}` must choose at least 1 layer, but got `{named(text)}`", f"--layers {rule}-2"
        )
    return LayerRule(rule, number)


def layer_rules(text: str) -> tuple[LayerRule, ...]:
    """Read the rules of `--layers`, empty without any; raises as `layer_rule`."""
    return tuple(dict.fromkeys(map(layer_rule, items(text, "--layers", EXAMPLE))))


def module_kinds(text: str) -> tuple[ModuleKind, ...]:
    """Read the kinds of `--modules`, empty without any.

    Raises:
        UserError: a kind is unknown.
    """
    return tuple(dict.fromkeys(module_kind(word) for word in items(text, "--modules", ",".join(MODULE_KINDS))))


def module_kind(text: str, where: str = "--modules") -> ModuleKind:
    """Read one kind of modules; raises as `module_kinds`."""
    found: ModuleKind | None = next((kind for kind in get_args(ModuleKind) if kind == text), None)
    if found is None:
        raise UserError(
            f"{where} must be kinds among {', '.join(MODULE_KINDS)}, but got `{named(text)}`",
            nearest(text, MODULE_KINDS),
        )
    return found


def placed_by(rule: LayerRule, counts: Placement, sizes: Sizes, norms: Norms | None = None) -> Placement:
    """Return the placement that a rule makes of the counts and the kind of another, in towers of these sizes.

    Towers without adapted layers stay so. Layers that are the last of their tower are not listed, so that equal
    placements are equal trials, whatever rule made them. `norms` are needed by `gradient` alone.

    Raises:
        UserError: a tower has fewer layers than the rule takes.
        ValueError: the rule is `gradient`, and there are no norms.
    """
    chosen: dict[str, int | tuple[int, ...]] = {}
    for tower in TOWERS:
        if count := counts.count(tower):
            indices = _indices(rule, count, tower, sizes[tower], norms)
            is_last = indices == tuple(range(sizes[tower] - len(indices), sizes[tower]))
            chosen |= {tower: len(indices), f"{tower}_indices": () if is_last else indices}
    return Placement.model_validate({**chosen, "modules": counts.modules if chosen else "all"})


def _indices(rule: LayerRule, count: int, tower: TowerName, size: int, norms: Norms | None) -> tuple[int, ...]:
    if rule.rule == "all":
        return tuple(range(size))
    if rule.rule == "every":
        if rule.number > size:
            raise _too_many(rule, tower, size)
        return tuple(range(size - 1, -1, -rule.number))[::-1]  # the last layer is one of them
    count = rule.number or count
    if count > size:
        raise _too_many(LayerRule(rule.rule, count), tower, size)
    if rule.rule == "gradient":
        if norms is None:
            raise ValueError("layers of the largest gradient need measured norms")
        by_norm = sorted(range(size), key=lambda index: (-norms[tower][index], index))
        return tuple(sorted(by_norm[:count]))
    return tuple(range(count)) if rule.rule == "first" else tuple(range(size - count, size))


def _too_many(rule: LayerRule, tower: TowerName, size: int) -> UserError:
    return UserError(
        f"--layers must fit the towers of the base, but {rule} does not fit its {size} {tower} layers",
        f"--layers {rule.rule}-{size} is the most that fits",
    )

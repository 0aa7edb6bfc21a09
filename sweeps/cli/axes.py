"""Turns the options `--modules`, `--layers` and `--mix` into axes, alike for studies, searches and staged studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.cli.options import LaunchOptions
from trainables.errors import UserError
from trainables.typed import typed

if TYPE_CHECKING:
    from sweeps.planning.layers import LayerRule
    from sweeps.planning.mixes import AskedMix
    from trainables.placement import ModuleKind

    Placed = tuple[tuple[ModuleKind, ...], tuple[LayerRule, ...]]


def placed(shared: LaunchOptions) -> Placed:
    """Return the kinds of modules and the rules for layers that options name.

    Raises:
        UserError: a kind or a rule is unknown.
    """
    from sweeps.planning.layers import layer_rules, module_kinds

    return module_kinds(shared.modules), layer_rules(shared.layers)


def placed_once(shared: LaunchOptions) -> Placed:
    """Return one kind and one rule at most, for stages that continue one adapter.

    Raises:
        UserError: several are named, or one is unknown.
    """
    kinds, rules = placed(shared)
    for option, values in (("--modules", kinds), ("--layers", rules)):
        if len(values) > 1:
            raise UserError(
                f"{option} must name one value, for all stages continue one adapter, but got "
                f"{', '.join(map(str, values))}",
                f"{option} {values[0]}; another launch for each other one: --experiment NAME",
            )
    return kinds, rules


def mixes(shared: LaunchOptions) -> tuple[AskedMix, ...]:
    """Return the mixes that `--mix` names.

    Raises:
        UserError: it is malformed.
    """
    from sweeps.planning.mixes import parse_mixes

    return parse_mixes(",".join(shared.mix or ()))


def one_mix(shared: LaunchOptions) -> AskedMix | None:
    """Return the mix of all trials, None if no row is replayed.

    Raises:
        UserError: several are named, or `--mix` is malformed.
    """
    found = mixes(shared)
    if len(found) > 1:
        raise UserError(
            f"--mix must be one file and one ratio for a search, but got {len(found)} mixes: trials of different "
            "mixes do not train together",
            f"--mix {found[0].path}:{found[0].ratio:g}; a study compares mixes, such as `{typed('stage4')}`",
        )
    return found[0] if found and found[0].ratio else None

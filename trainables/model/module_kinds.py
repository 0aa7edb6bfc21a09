"""The kinds of linears in a block: attention or feed-forward, by the name of the module, fused or not.

A fused projection is all its parts: `qkv_proj` is queries, keys and values. A name that is not in the table has no
kind, and a family whose blocks have such a linear is refused by a test, not at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from trainables.errors import UserError, nearest
from trainables.placement import MODULE_KINDS, ModuleKind

__all__ = [
    "MODULE_KINDS", "PARTS", "ModuleKind", "Part", "is_of_kind", "modules_of_kind", "name_hint", "own_name",
    "whole_linears",
]  # fmt: skip

Part = Literal["query", "key", "value", "output", "state", "gate", "up", "down"]
_FUSED: tuple[Part, ...] = ("query", "key", "value")

WRAPPED = ".linear"  # ends the name of a linear in a module that clips what goes in and comes out

# by the name of the module in its layer
PARTS: Mapping[str, tuple[Part, ...]] = {
    "q_proj": ("query",),
    "k_proj": ("key",),
    "v_proj": ("value",),
    "o_proj": ("output",),
    "qkv": _FUSED,
    "qkv_proj": _FUSED,
    "proj": ("output",),
    "out_proj": ("output",),
    "projection_layer": ("output",),
    "per_layer_input_gate": ("gate",),
    "per_layer_projection": ("down",),
    "in_proj_qkv": _FUSED,
    "in_proj_z": ("output",),
    "in_proj_b": ("state",),
    "in_proj_a": ("state",),
    "gate_proj": ("gate",),
    "up_proj": ("up",),
    "gate_up_proj": ("gate", "up"),
    "down_proj": ("down",),
    "fc1": ("up",),
    "fc2": ("down",),
    "linear_fc1": ("up",),
    "linear_fc2": ("down",),
}

# what the parts are called where they are linears of their own
LINEAR_OF: Mapping[Part, str] = {
    "query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj", "gate": "gate_proj", "up": "up_proj",
    "down": "down_proj",
}  # fmt: skip

_PARTS_OF: Mapping[ModuleKind, frozenset[Part]] = {
    "attention": frozenset({"query", "key", "value", "output", "state"}),
    "mlp": frozenset({"gate", "up", "down"}),
    "gate-up": frozenset({"gate", "up"}),
    "all": frozenset({"query", "key", "value", "output", "state", "gate", "up", "down"}),
}


def own_name(module: str) -> str:
    """Return the name of a linear in its layer: the last part of its full name, or of its wrapper's."""
    return module.removesuffix(WRAPPED).rpartition(".")[2]


def is_of_kind(module: str, kind: ModuleKind) -> bool:
    """True when the linear that is called `module` in its layer has a part of this kind."""
    return not _PARTS_OF[kind].isdisjoint(PARTS[module])


def modules_of_kind(modules: Sequence[str], kind: ModuleKind) -> tuple[str, ...]:
    """Return the linears among `modules` that are of this kind, in the same order."""
    return tuple(module for module in modules if is_of_kind(module, kind))


def part_names(module: str) -> tuple[str, ...]:
    """Return what the parts of a fused linear are called where they are not fused; empty if it is not fused."""
    parts = PARTS.get(module, ())
    return tuple(LINEAR_OF[part] for part in parts) if len(parts) > 1 else ()


def whole_linears(requested: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """Return the requested names, with all parts of a fused linear among `own` replaced by that linear.

    Raises:
        UserError: only some of the parts are requested; LoRA on a part of a linear cannot be trained.
    """
    names = list(requested)
    for fused in dict.fromkeys(own):
        parts = [name for name in names if name in part_names(fused) and name not in own]
        if not parts:
            continue
        if fused not in names and set(parts) != set(part_names(fused)):
            raise UserError(f"a target module must be a whole linear, but {part_text(parts, fused)}", part_hint(fused))
        names[names.index(parts[0])] = fused
        names = [name for name in names if name not in parts]
    return tuple(dict.fromkeys(names))


def part_text(parts: Sequence[str], fused: str) -> str:
    """Return in words that the linears `parts` are a part of one fused linear."""
    return f"{', '.join(parts)} {'is a part' if len(parts) == 1 else 'are parts'} of {fused}, one fused linear"


def part_hint(fused: str) -> str:
    """Return what to do about a request for a part of a fused linear."""
    return f"name {fused}, which is {', '.join(part_names(fused))} together: LoRA adapts a linear as a whole"


def name_hint(name: str, own: Sequence[str]) -> str:
    """Return the hint for a linear that a block does not have: its parts if the block has these, else the nearest."""
    parts = part_names(name)
    if parts and set(parts) <= set(own):
        return f"its parts are linears of their own here: {', '.join(parts)}"
    return nearest(name, own)

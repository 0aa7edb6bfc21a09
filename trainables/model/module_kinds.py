"""The kinds of linears in a block: attention or feed-forward, by the name of the module, fused or not.

A fused projection is all its parts: `qkv_proj` is queries, keys and values. A name that is not in the table has no
kind, and a family whose blocks have such a linear is refused by a test, not at run time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from trainables.placement import MODULE_KINDS, ModuleKind

__all__ = ["MODULE_KINDS", "PARTS", "ModuleKind", "Part", "is_of_kind", "modules_of_kind"]

Part = Literal["query", "key", "value", "output", "gate", "up", "down"]
_FUSED: tuple[Part, ...] = ("query", "key", "value")

# by the last name of the module
PARTS: Mapping[str, tuple[Part, ...]] = {
    "q_proj": ("query",),
    "k_proj": ("key",),
    "v_proj": ("value",),
    "o_proj": ("output",),
    "qkv": _FUSED,
    "proj": ("output",),
    "gate_proj": ("gate",),
    "up_proj": ("up",),
    "down_proj": ("down",),
    "fc1": ("up",),
    "fc2": ("down",),
    "linear_fc1": ("up",),
    "linear_fc2": ("down",),
}

_PARTS_OF: Mapping[ModuleKind, frozenset[Part]] = {
    "attention": frozenset({"query", "key", "value", "output"}),
    "mlp": frozenset({"gate", "up", "down"}),
    "gate-up": frozenset({"gate", "up"}),
    "all": frozenset({"query", "key", "value", "output", "gate", "up", "down"}),
}


def is_of_kind(module: str, kind: ModuleKind) -> bool:
    """True when the linear `module`, the last part of its full name, has a part of this kind."""
    return not _PARTS_OF[kind].isdisjoint(PARTS[module])


def modules_of_kind(modules: Sequence[str], kind: ModuleKind) -> tuple[str, ...]:
    """Return the linears among `modules` that are of this kind, in the same order."""
    return tuple(module for module in modules if is_of_kind(module, kind))

"""Fused projections: several linears of a block that have the same input, held and adapted as one."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.model.families.family import Blocks, LinearShape

QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")
GATE_UP = ("gate_proj", "up_proj")


@dataclass(frozen=True)
class FusedLinear:
    """One linear called `name` in place of the linears `parts`: as wide as all of them, in this order."""

    name: str
    parts: tuple[str, ...]


FUSED_QUERY_KEY_VALUE = FusedLinear("qkv_proj", QUERY_KEY_VALUE)
FUSED_GATE_UP = FusedLinear("gate_up_proj", GATE_UP)


def fuse(blocks: Blocks, *fused: FusedLinear) -> Blocks:
    """Return the blocks with each fused linear in the place of its parts."""
    for one in fused:
        blocks = tuple(_fused_in(block, one) for block in blocks)
    return blocks


def _fused_in(block: tuple[LinearShape, ...], fused: FusedLinear) -> tuple[LinearShape, ...]:
    parts = [linear for linear in block if linear.name.rsplit(".", 1)[1] in fused.parts]
    path = parts[0].name.rsplit(".", 1)[0]
    whole = LinearShape(f"{path}.{fused.name}", parts[0].inputs, sum(part.outputs for part in parts))
    first = block.index(parts[0])
    return (*block[:first], whole, *(linear for linear in block[first:] if linear not in parts))

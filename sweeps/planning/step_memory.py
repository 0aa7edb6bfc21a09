"""Forecasts the peak of live tensor bytes in a training pass; pure functions of shapes.

What a graph keeps is counted linear by linear, as autograd keeps it for a frozen base with LoRA: inputs of norms, the
inputs of LoRA after dropout with their masks, queries, keys and values, the feed-forward's products, and the logits at
labels. Docs/forecast.md compares it with what was measured. Workspace inside an operation is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from trainables.model.families import Blocks, LinearShape, TowerName
from trainables.model.module_kinds import PARTS, own_name

FLOAT, MASK = 4, 1  # bytes of a float32 value, and of one of a dropout mask
NORMS = 2  # of a block
COPIES_OF_AN_ADAPTER = 4  # parameters, gradients and AdamW's two moments, in float32
COPIES_OF_LOGITS = 4  # logits, their log-softmax, and the gradients of both
STREAMS = 2  # states (tokens, width) that the pass itself holds beside those of its blocks
VISION_ATTENTION = 7  # widths: the fused projection, of which values are a view, rotated queries and keys, two outputs
TEXT_ATTENTION = 4  # widths: queries, keys and values repeated for all heads, and what attention returns


@dataclass(frozen=True)
class PassShape:
    """The batch of one pass: its rows, all of the padded length `row_tokens`.

    `labels` are the supervised tokens of all rows, `row_labels` the most of one, `patches` those of all pictures.
    """

    rows: int
    row_tokens: int
    labels: int
    row_labels: int
    patches: int = 0
    image_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Return the positions that are computed, padding included."""
        return self.rows * self.row_tokens


@dataclass(frozen=True)
class PassMember:
    """One trial of a pass: the names of its adapted linears, its rank, and whether it has dropout."""

    adapted: frozenset[str]
    rank: int
    drops: bool = True


@dataclass(frozen=True)
class ModelShape:
    """What a pass needs of a base: its towers, its vocabulary, and the bytes of a value in its compute dtype.

    `norms_heads` says that attention norms queries and keys before it rotates them.
    """

    language: Blocks
    vision: Blocks
    vocabulary: int
    value_bytes: int
    norms_heads: bool = False


def adapter_bytes(model: ModelShape, members: Sequence[PassMember]) -> int:
    """Return the bytes of parameters, gradients and moments of all members' adapters."""
    linears = [one for tower in (model.language, model.vision) for block in tower for one in block]
    trained = sum(one.rank * (linear.inputs + linear.outputs) for one in members
                  for linear in linears if linear.name in one.adapted)  # fmt: skip
    return COPIES_OF_AN_ADAPTER * FLOAT * trained


def graph_bytes(model: ModelShape, members: Sequence[PassMember], shape: PassShape, recomputes: bool = False) -> int:
    """Return the bytes that a pass of all members holds at most beyond weights and adapters.

    A member keeps a graph from its lowest adapted block on. With `recomputes` only the inputs of blocks are kept, and
    one block at a time is computed again.
    """
    kept = sum(_member_bytes(model, one, shape, recomputes) for one in members)
    frozen = _frozen_bytes(model, shape, len(members))
    return max(kept + COPIES_OF_LOGITS * FLOAT * shape.labels * model.vocabulary * len(members), frozen)


def _member_bytes(model: ModelShape, member: PassMember, shape: PassShape, recomputes: bool) -> int:
    sees = bool(shape.patches) and any(_is_adapted(block, member) for block in model.vision)
    total = 0
    towers: tuple[tuple[TowerName, int], ...] = (("vision", shape.patches), ("language", shape.tokens))
    for tower, tokens in towers:
        blocks = model.vision if tower == "vision" else model.language
        reached = list(accumulate((_is_adapted(block, member) for block in blocks), max, initial=False))[1:]
        if tower == "language" and sees:
            reached = [True] * len(blocks)  # gradients of the vision tower pass them all
        if not tokens or not any(reached):
            continue
        sizes = [
            _block_values(block, member, model, tower) * _positions(model, shape, tower, index)
            for index, block in enumerate(blocks)
            if reached[index]
        ]
        if tower == "language":
            sizes[-1] += _keys_and_values(blocks[-1], member, model) * tokens
            total += STREAMS * blocks[0][0].inputs * FLOAT * tokens
        inputs = blocks[0][0].inputs * tokens * model.value_bytes * len(sizes)
        total += inputs + max(sizes) if recomputes else sum(sizes)
    return int(total)


def _positions(model: ModelShape, shape: PassShape, tower: TowerName, index: int) -> int:
    """Return at how many positions a block is computed: the last language layer only where a label is predicted."""
    if tower == "vision":
        return shape.patches
    is_last = index == len(model.language) - 1
    return shape.rows * shape.row_labels if is_last else shape.tokens


def _block_values(block: Sequence[LinearShape], member: PassMember, model: ModelShape, tower: TowerName) -> int:
    """Return the bytes that a block keeps for each position."""
    hidden = block[0].inputs
    queries = _width(block, "output", outputs=False)
    feed_forward = _width(block, "down", outputs=False)
    is_gated = any("gate" in parts_of(one) for one in block)
    attention = (TEXT_ATTENTION if tower == "language" else VISION_ATTENTION) * queries
    products = (3 if is_gated else 1) * feed_forward
    own = NORMS * hidden * FLOAT + (attention + products) * model.value_bytes
    if model.norms_heads and tower == "language":
        own += (queries + _width(block, "key")) * FLOAT
    return own + _lora_values([one for one in block if one.name in member.adapted], member)


def _keys_and_values(block: Sequence[LinearShape], member: PassMember, model: ModelShape) -> int:
    """Return the bytes that the last layer keeps for every position: its norm, keys and values."""
    linears = [one for one in block if {"key", "value"} & set(parts_of(one))]
    kept = block[0].inputs * FLOAT + sum(one.outputs for one in linears) * model.value_bytes
    return kept + _lora_values([one for one in linears if one.name in member.adapted], member)


def _lora_values(adapted: Sequence[LinearShape], member: PassMember) -> int:
    inputs = sum(one.inputs for one in adapted) * (FLOAT + MASK * member.drops)
    return inputs + len(adapted) * member.rank * FLOAT


def _width(block: Sequence[LinearShape], part: str, outputs: bool = True) -> int:
    return sum(one.outputs if outputs else one.inputs for one in block if part in parts_of(one))


def _frozen_bytes(model: ModelShape, shape: PassShape, members: int) -> int:
    """Return the bytes of one block at work without a graph: its input, and the widest of its intermediate values."""
    sizes = [
        (3 * blocks[0][0].inputs + 3 * max(one.outputs for one in blocks[0])) * positions * model.value_bytes
        for blocks, positions in ((model.language, shape.tokens), (model.vision, shape.patches))
        if blocks
    ]
    return max(sizes) * members


def parts_of(linear: LinearShape) -> tuple[str, ...]:
    """Return which parts of a block a linear is."""
    return PARTS.get(own_name(linear.name), ())


def _is_adapted(block: Sequence[LinearShape], member: PassMember) -> bool:
    return any(one.name in member.adapted for one in block)

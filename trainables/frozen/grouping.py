"""In which shape activations are computed: a shape that depends on the length of a row alone.

A matrix product can round differently for another number of rows. So a long row is computed alone, without padding, and
short rows in groups of always the same number of lines and tokens: a group is filled up by repetition. Then the same
kernels run in the same order for every row, whichever rows are beside it, and a row's place in the group does not
matter. This is checked for each shape, on the machine that computes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

SIZES = (16, 32, 48, 64, 96, 128, 192, 256)  # tokens to which the rows of a group are padded
# tokens of a group: fewer take nearly as long, so that repetition costs little
CPU_TOKENS, GPU_TOKENS, PATCHES = 256, 512, 256

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class GroupShape:
    """How many lines of how many tokens, or pictures of how many patches, are computed together."""

    lines: int
    tokens: int


def row_shape(tokens: int, most_tokens: int) -> GroupShape:
    """Return the shape in which a row of `tokens` is computed, in groups of at most `most_tokens`.

    Every line of a group has padding: attention with a mask and without one are different kernels.
    """
    padded = next((size for size in SIZES if size > tokens), most_tokens + 1)
    lines = most_tokens // padded
    return GroupShape(lines, padded) if lines > 1 else GroupShape(1, tokens)


def picture_shape(patches: int, most_tokens: int) -> GroupShape:
    """Return the shape in which a picture is computed, beside others of the same height and width."""
    return GroupShape(max(1, min(most_tokens, PATCHES) // patches), patches)


def groups_of(keys: Sequence[Key]) -> dict[Key, list[int]]:
    """Return the numbers of the items by their key, in order."""
    found: dict[Key, list[int]] = {}
    for number, key in enumerate(keys):
        found.setdefault(key, []).append(number)
    return found


def filled(numbers: Sequence[int], lines: int) -> list[list[int]]:
    """Split numbers into groups of `lines`; the last one repeats its own."""
    parts = [list(numbers[start : start + lines]) for start in range(0, len(numbers), lines)]
    return [[part[place % len(part)] for place in range(lines)] for part in parts]

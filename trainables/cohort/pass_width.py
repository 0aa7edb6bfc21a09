"""Chooses how many trials a pass computes: narrow passes repeat shared layers, wide ones exceed caches or memory.

Trials without a vision adapter share all language layers below their lowest adapter, so wide passes are faster. Trials
with a vision adapter share little. A short measurement finds the best width for each of these two kinds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MIN_GAIN = 0.03  # of the seconds per trial, for a wider pass to be worth its memory
REPEATS = 2


@dataclass(frozen=True)
class PassWidths:
    """The maximum number of trials in a pass, without a vision adapter (`language`) and with one (`vision`)."""

    language: int
    vision: int


def widths_in(fields: Mapping[str, Any]) -> PassWidths:
    """Return the widths that were kept as plain fields.

    Raises:
        ValueError: they are no whole numbers from 1 on.
    """
    found = PassWidths(fields["language"], fields["vision"])
    if any(type(width) is not int or width < 1 for width in (found.language, found.vision)):
        raise ValueError(f"widths must be whole numbers from 1 on, but got {found}")
    return found


@dataclass(frozen=True)
class Member:
    """A trial by its number in the cohort, with the number of adapted layers in each tower."""

    number: int
    language: int
    vision: int


def passes(members: Sequence[Member], widths: PassWidths) -> list[tuple[int, ...]]:
    """Split members into passes of similar size; members that share many layers are in the same pass."""
    split: list[tuple[int, ...]] = []
    for width, kind in zip((widths.language, widths.vision), by_kind(members), strict=True):
        if kind:
            count = -(-len(kind) // width)
            edges = [len(kind) * index // count for index in range(count + 1)]
            split += [tuple(one.number for one in kind[low:high]) for low, high in itertools.pairwise(edges)]
    return split


def by_kind(members: Sequence[Member]) -> tuple[list[Member], list[Member]]:
    """Return the members without and those with a vision adapter, those with the fewest adapted layers first."""
    ordered = sorted(members, key=lambda one: (one.vision, one.language, one.number))
    return [one for one in ordered if not one.vision], [one for one in ordered if one.vision]


def calibrated(members: Sequence[Member], seconds: Callable[[Sequence[int]], float | None]) -> PassWidths:
    """Return the widths with the fewest seconds per trial, as measured by `seconds` (None: out of memory)."""
    language, vision = (_fastest([one.number for one in kind], seconds) for kind in by_kind(members))
    return PassWidths(language, vision)


def narrower(widths: PassWidths | None, failed: int) -> PassWidths:
    """Return widths of at most half the `failed` one, which ran out of memory."""
    half = max(1, failed // 2)
    return (
        PassWidths(half, half) if widths is None else PassWidths(min(widths.language, half), min(widths.vision, half))
    )


def _fastest(numbers: Sequence[int], seconds: Callable[[Sequence[int]], float | None]) -> int:
    best, best_rate = 1, float("inf")
    for width in candidates(len(numbers)):
        # the first run of a shape allocates memory that later ones reuse
        runs = [seconds(numbers[:width]) for _ in range(REPEATS)]
        found = [one for one in runs if one is not None]
        if len(found) < len(runs):
            break
        rate = min(found) / width
        if rate < (1.0 - MIN_GAIN) * best_rate:
            best, best_rate = width, rate
        elif width > 2 * best:
            break
    return best


def candidates(count: int) -> list[int]:
    """Return the widths to measure for `count` trials: powers of two, and `count` itself."""
    return sorted({width for width in (1, 2, 4, 8, 16, 32, 64) if width < count} | {count} - {0})

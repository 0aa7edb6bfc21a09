"""Which rows of the live table fit the terminal, and which are folded into one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.display.trial_rows import TrialRow


@dataclass(frozen=True)
class Layout:
    """The rows that are shown, and a line for each group of rows that are folded."""

    rows: tuple[TrialRow, ...]
    folded: tuple[str, ...] = ()


def fitting(rows: Sequence[TrialRow], lines: int) -> Layout:
    """Return a layout of at most `lines` lines (two or more): ended trials are folded first, then waiting ones."""
    if len(rows) <= lines:
        return Layout(tuple(rows))
    ended = [row for row in rows if row.verdict is not None]
    waiting = [row for row in rows if row.verdict is None and row.phase.name == "waiting"]
    running = [row for row in rows if row.verdict is None and row.phase.name != "waiting"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(row.kind for row in ended).items())
    folded = (f"{len(ended)} ended: {kinds}",) if ended else ()
    if len(running) + len(waiting) + len(folded) <= lines:
        return Layout((*running, *waiting), folded)
    folded = (*folded, f"{len(waiting)} waiting") if waiting else folded
    if len(running) + len(folded) <= lines:
        return Layout(tuple(running), folded)
    shown = max(0, lines - len(folded) - 1)
    others = running[shown:]
    steps = sorted(row.step for row in others)
    return Layout(tuple(running[:shown]), (f"{len(others)} more running, at steps {steps[0]} to {steps[-1]}", *folded))

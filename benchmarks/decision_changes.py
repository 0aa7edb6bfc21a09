"""Measures on simulated sweeps how often a pick that is said to be settled, or undecided, truly changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.decision.settled import ACCEPTED, MARGIN, changed, should_be_picked
from benchmarks.decision_rules import conclude, pick_now, with_finalists_asked
from benchmarks.decision_worlds import ALL_PASS_ROWS, EVALS, LIMIT, PICKS, asked, world

EDGES = (0.0, ACCEPTED, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Changes:
    """Picks whose stated probability of a change lies in one bin: its mean, and the share that truly changes.

    `finalists` tells whether the finalists had been asked more rows.
    """

    seeds: int
    finalists: bool
    low: float
    high: float
    cases: int
    said: float
    true: float


def changes(worlds: int, seeds: int, finalists: bool) -> list[Changes]:
    """Compare the probability that is stated of each pick with whether endless rows and seeds lead to another one."""
    found = []
    for number in range(worlds):
        generator = np.random.default_rng([PICKS, seeds, number])
        whole = world(generator, seeds, EVALS, ALL_PASS_ROWS)
        one = with_finalists_asked(whole, generator) if finalists else asked(whole, ())
        shipped = pick_now(one, conclude(one, generator))
        picked = None if shipped is None else shipped[0]
        drawn = conclude(one, generator, described=True)
        found.append((_of(drawn.fit, drawn.generality, picked), _of(one.fit[None], one.generality[None], picked)))
    said, true = np.array(found).T
    at = np.clip(np.searchsorted(EDGES, said, side="left") - 1, 0, len(EDGES) - 2)
    return [
        Changes(seeds, finalists, EDGES[bin_], EDGES[bin_ + 1], int((at == bin_).sum()), float(said[at == bin_].mean()),
                float(true[at == bin_].mean()))
        for bin_ in np.unique(at)
    ]  # fmt: skip


def _of(fit: np.ndarray, generality: np.ndarray, picked: int | None) -> float:
    """Return the share of draws in which another candidate should be picked, the baseline being the last."""
    fits, gains = fit[:, :-1], fit[:, :-1] - fit[:, -1:]
    return changed(should_be_picked(fits, gains, generality[:, :-1] >= LIMIT, picked, MARGIN))

"""Measures on simulated sweeps how far stated probabilities, intervals and picks can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.decision_changes import Changes, changes
from benchmarks.decision_oracle import oracle
from benchmarks.decision_rules import (
    LEVEL,
    conclude,
    pick_before,
    pick_now,
    said,
    said_before,
    true,
    with_finalists_asked,
)
from benchmarks.decision_worlds import ALL_PASS_ROWS, EVALS, LIMIT, PICKS, World, asked, world

EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
SEEDS = (1, 2, 3, 5)
BARRED_SEEDS = (2, 3, 5)
LEVELS = (0.9, 0.7, 0.5)
CALIBRATION, ORACLE = 1, 3  # streams of random numbers, beside that of the picks
LEAST_PROBABILITY = 0.0005  # half a draw: what was never seen is not impossible
LOG_LOSS_BAR, COVERAGE_BAR = 0.45, (0.93, 0.97)
GAP_BAR = {False: 0.05, True: 0.08}


@dataclass(frozen=True)
class Bin:
    """The cases whose stated probability lies in one bin: the mean of what was said, the share that was true."""

    low: float
    high: float
    cases: int
    said: float
    true: float
    is_within: bool


@dataclass(frozen=True)
class Calibration:
    """How well probabilities of being on the frontier are calibrated, with log loss (nats a case)."""

    estimator: str
    seeds: int
    constrained: bool
    log_loss: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Coverage:
    """The share of 95 % intervals that hold the truth, of fit and of pass."""

    estimator: str
    seeds: int
    fit: float
    generality: float


@dataclass(frozen=True)
class Regret:
    """What a rule ships: how much true fit it gives up, and how often what it ships breaks the constraint.

    `regret` is the best true fit of an admissible candidate less that of the shipped one, which is 0 for nothing
    shipped. `violations` is the share of shipped seeds that truly miss the constraint, `nothing` the share of sweeps
    in which nothing is shipped.
    """

    rule: str
    seeds: int
    regret: float
    violations: float
    nothing: float


@dataclass(frozen=True)
class Measured:
    """All that was measured, on so many sweeps each."""

    worlds: int
    calibrations: tuple[Calibration, ...]
    coverages: tuple[Coverage, ...]
    regrets: tuple[Regret, ...]
    changes: tuple[Changes, ...]


def measure(worlds: int, say: Callable[[str], None]) -> Measured:
    """Simulate the sweeps and conclude from each of them."""
    calibrations: list[Calibration] = []
    coverages: list[Coverage] = []
    regrets: list[Regret] = []
    changed: list[Changes] = []
    for seeds in SEEDS:
        found, covered = calibrate(worlds, seeds)
        calibrations += found
        coverages += covered
        regrets += regret(worlds, seeds)
        changed += [*changes(worlds, seeds, finalists=False), *changes(worlds, seeds, finalists=True)]
        say(f"{seeds} seeds: log loss {', '.join(f'{one.log_loss:.3f} ({one.estimator})' for one in found)}")
    return Measured(worlds, tuple(calibrations), tuple(coverages), tuple(regrets), tuple(changed))


# ------------------------------------------------------------------- probabilities and intervals
def calibrate(worlds: int, seeds: int) -> tuple[list[Calibration], list[Coverage]]:
    """Compare what the estimators say of each arm with its truth; baselines are compared with, and not counted."""
    stated: dict[tuple[str, bool], list[np.ndarray]] = {}
    truths: dict[bool, list[np.ndarray]] = {False: [], True: []}
    held: dict[str, list[tuple[float, float]]] = {"as described": [], "pooled": [], "oracle": []}
    for number in range(worlds):
        generator = np.random.default_rng([CALIBRATION, seeds, number])
        one = world(generator, seeds)
        drawn = {"as described": conclude(one, generator, described=True), "pooled": conclude(one, generator)}
        drawn["oracle"] = oracle(one, np.random.default_rng([ORACLE, seeds, number]))
        for name, each in drawn.items():
            held[name].append((_share_held(each.fit, one.fit), _share_held(each.generality, one.generality)))
        for constrained in (False, True):
            truths[constrained].append(true(one, constrained)[:-1])
            before = said_before(one, constrained, generator)
            every = {"before": before, **{name: said(each, constrained) for name, each in drawn.items()}}
            for name, values in every.items():
                stated.setdefault((name, constrained), []).append(values[:-1])
    calibrations = [
        _calibration(name, seeds, constrained, np.concatenate(values), np.concatenate(truths[constrained]))
        for (name, constrained), values in stated.items()
    ]
    means = {name: np.mean(values, axis=0) for name, values in held.items()}
    return calibrations, [Coverage(name, seeds, float(fit), float(kept)) for name, (fit, kept) in means.items()]


def _share_held(draws: np.ndarray, truth: np.ndarray) -> float:
    low, high = np.quantile(draws[:, :-1], (0.025, 0.975), axis=0)
    return float(np.mean((low <= truth[:-1]) & (truth[:-1] <= high)))


def _calibration(name: str, seeds: int, constrained: bool, stated: np.ndarray, truth: np.ndarray) -> Calibration:
    cut = np.clip(stated, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    loss = -np.where(truth, np.log(cut), np.log(1.0 - cut)).mean()
    at = np.clip(np.searchsorted(EDGES, stated, side="right") - 1, 0, len(EDGES) - 2)
    bins = [_bin(one, stated[at == one], truth[at == one], constrained) for one in np.unique(at)]
    return Calibration(name, seeds, constrained, float(loss), tuple(bins))


def _bin(at: int, stated: np.ndarray, truth: np.ndarray, constrained: bool) -> Bin:
    mean, share, cases = float(stated.mean()), float(truth.mean()), len(truth)
    bar = max(GAP_BAR[constrained], 2.0 * np.sqrt(share * (1.0 - share) / cases))
    return Bin(EDGES[at], EDGES[at + 1], cases, mean, share, bool(abs(mean - share) <= bar))


# ------------------------------------------------------------------- what is shipped
def regret(worlds: int, seeds: int) -> list[Regret]:
    """Let each rule ship from sweeps with four evals a trial."""
    outcomes: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(worlds):
        generator = np.random.default_rng([PICKS, seeds, number])
        whole = world(generator, seeds, EVALS, ALL_PASS_ROWS)
        one = asked(whole, ())
        drawn = conclude(one, generator)
        shipped = {"before": pick_before(one)}
        shipped |= {f"pick at {level:g}": pick_now(one, drawn, level) for level in LEVELS}
        final = with_finalists_asked(whole, generator)
        shipped[f"pick at {LEVEL:g}, finalists asked {ALL_PASS_ROWS} rows"] = pick_now(
            final, conclude(final, generator)
        )
        for name, found in shipped.items():
            outcomes.setdefault(name, []).append(_outcome(one, found))
    return [_regret(name, seeds, np.array(values)) for name, values in outcomes.items()]


def _outcome(one: World, shipped: tuple[int, int] | None) -> tuple[float, float, float]:
    best = max(0.0, float(one.fit[one.generality >= LIMIT].max()))
    if shipped is None:
        return best, np.nan, 1.0
    return best - float(one.fit[shipped[0]]), float(one.seed_generality[shipped] < LIMIT), 0.0


def _regret(name: str, seeds: int, outcomes: np.ndarray) -> Regret:
    shipped = outcomes[outcomes[:, 2] == 0.0]
    violations = float(shipped[:, 1].mean()) if len(shipped) else 0.0
    return Regret(name, seeds, float(outcomes[:, 0].mean()), violations, float(outcomes[:, 2].mean()))

"""Writes `docs/statistics.md` from what was measured; nothing here measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from statistics import NormalDist

from analysis import templates
from analysis.decision.pooled import PRIOR_FREEDOM, PRIOR_SEED_DEVIATION
from analysis.decision.settled import ACCEPTED, MARGIN
from analysis.decision.shrinkage import LEAST_SPREAD
from benchmarks.decision_measure import (
    BARRED_SEEDS,
    COVERAGE_BAR,
    EDGES,
    LOG_LOSS_BAR,
    SEEDS,
    Bin,
    Calibration,
    Coverage,
    Measured,
    Regret,
)
from benchmarks.decision_worlds import EVAL_CORRELATION, FIT_ROWS, LIMIT, PASS_ROWS, PASS_SEED_DEVIATION
from benchmarks.pareto_scale import CANDIDATES, RESAMPLES, Scale
from trainables.rows_needed import LEVEL, least_rows

ESTIMATORS = ("before", "as described", "pooled")
ALLOWED_DROP = 0.1


@dataclass(frozen=True)
class Row:
    """One bin of what was said, with a cell for each estimator."""

    bin: str
    cells: list[str]


@dataclass(frozen=True)
class CalibrationTable:
    """The calibration of every estimator at one number of seeds, without and with the constraint."""

    title: str
    columns: list[str]
    rows: list[Row]
    losses: list[str]


def page(found: Measured, scale: Scale, machine: str, day: date) -> str:
    """Return the page; `day` is that of the measurement."""
    return templates.markdown(
        "benchmarks",
        "statistics.md",
        worlds=found.worlds,
        day=day.isoformat(),
        prior=f"{PRIOR_SEED_DEVIATION:g}",
        freedom=PRIOR_FREEDOM,
        spread=f"{LEAST_SPREAD:g}",
        least_rows=least_rows(LEVEL, ALLOWED_DROP),
        fit_rows=FIT_ROWS,
        pass_rows=PASS_ROWS,
        level=f"{LEVEL:g}",
        pass_seed_deviation=PASS_SEED_DEVIATION,
        pass_at_level=f"{LIMIT + NormalDist().inv_cdf(LEVEL) * PASS_SEED_DEVIATION:.2f}",
        tables=[_table(found, seeds) for seeds in SEEDS],
        coverage=[_coverage_row(found, seeds) for seeds in SEEDS],
        misses=misses(found) or ["Nowhere."],
        bound=[_bound_row(found, seeds) for seeds in SEEDS],
        log_loss_bar=f"{LOG_LOSS_BAR:g}",
        out_of_reach=out_of_reach(found),
        correlation=f"{EVAL_CORRELATION:g}",
        regrets=[_regret_row(one) for one in found.regrets],
        **_changes(found),
        candidates=f"{CANDIDATES:,}",
        resamples=f"{RESAMPLES:,}",
        scale=_seconds(scale),
        machine=machine,
    )


def _regret_row(one: Regret) -> list[str | int]:
    return [one.seeds, one.rule, f"{one.regret:.3f}", f"{one.violations:.0%}", f"{one.nothing:.0%}"]


def _changes(found: Measured) -> dict[str, object]:
    rows = [
        [one.seeds, "all rows" if one.finalists else "the core", f"{one.low:g} to {one.high:g}", one.cases,
         f"{one.said:.2f}", f"{one.true:.2f}"]
        for one in found.changes
    ]  # fmt: skip
    return {"accepted": f"{ACCEPTED:g}", "margin": f"{MARGIN:g}", "settled": settled(found), "changes": rows}


def _seconds(scale: Scale) -> dict[str, str]:
    return {
        "frontier": f"{scale.frontier_seconds:.1f}",
        "hypervolume": f"{scale.hypervolume_seconds:.1f}",
        "attainment": f"{scale.attainment_seconds:.1f}",
        "memory": f"{scale.peak_memory_mb:.0f}",
    }


def misses(found: Measured) -> list[str]:
    """Return a sentence for each part of the bar that the estimator in use misses."""
    lines = []
    for one in found.calibrations:
        if one.estimator != "pooled" or one.seeds not in BARRED_SEEDS:
            continue
        where = f"{one.seeds} seeds, {_case(one.constrained)}"
        if one.log_loss > LOG_LOSS_BAR:
            lines.append(f"{where}: log loss {one.log_loss:.3f}, above {LOG_LOSS_BAR:g}.")
        lines += [
            f"{where}: said {each.said:.2f}, true {each.true:.2f} in {each.cases} cases."
            for each in one.bins
            if not each.is_within
        ]
    for one in found.coverages:
        for name, value in (("fit", one.fit), ("pass", one.generality)):
            if one.estimator == "pooled" and one.seeds in BARRED_SEEDS and not _is_covered(value):
                lines.append(f"{one.seeds} seeds: {value:.1%} of the intervals of {name} hold the truth.")
    return lines


def settled(found: Measured) -> str:
    """Return how many of the picks that are called settled truly change, before and after the finalists answered."""
    said = []
    for when, finalists in (("on the core alone", False), ("once the finalists answered all rows", True)):
        mine = [one for one in found.changes if one.finalists == finalists and one.high <= ACCEPTED and one.seeds > 1]
        said.append(f"{when} {sum(round(one.true * one.cases) for one in mine)} of {sum(one.cases for one in mine)}")
    return "; ".join(said)


def out_of_reach(found: Measured) -> list[str]:
    """Return the cases in which the oracle itself is above the bar of the log loss."""
    return [
        f"{one.seeds} seeds {_case(one.constrained)}"
        for one in found.calibrations
        if one.estimator == "oracle" and one.seeds in BARRED_SEEDS and one.log_loss > LOG_LOSS_BAR
    ]


def _bound_row(found: Measured, seeds: int) -> list[str]:
    losses = [
        _of(found.calibrations, name, seeds, constrained).log_loss
        for constrained in (False, True)
        for name in ("pooled", "oracle")
    ]
    return [str(seeds), *(f"{loss:.3f}" for loss in losses)]


def _is_covered(share: float) -> bool:
    return COVERAGE_BAR[0] <= share <= COVERAGE_BAR[1]


def _case(constrained: bool) -> str:
    return "with the constraint" if constrained else "without the constraint"


def _table(found: Measured, seeds: int) -> CalibrationTable:
    every = [_of(found.calibrations, name, seeds, constrained) for constrained in (False, True) for name in ESTIMATORS]
    rows = [Row(f"{low:g} to {high:g}", [_cell(one.bins, low) for one in every]) for low, high in pairwise(EDGES)]
    columns = [f"{one.estimator}{', constraint' if one.constrained else ''}" for one in every]
    title = f"{seeds} seed{'s' if seeds > 1 else ''}"
    return CalibrationTable(title, columns, rows, [f"{one.log_loss:.3f}" for one in every])


def _of(found: Sequence[Calibration], name: str, seeds: int, constrained: bool) -> Calibration:
    return next(one for one in found if (one.estimator, one.seeds, one.constrained) == (name, seeds, constrained))


def _cell(bins: Sequence[Bin], low: float) -> str:
    one = next((each for each in bins if each.low == low), None)
    if one is None:
        return "–"
    return f"{one.said:.2f} → {one.true:.2f}{'' if one.is_within else ' *'} ({one.cases})"


def _coverage_row(found: Measured, seeds: int) -> list[str]:
    def of(name: str) -> Coverage:
        return next(one for one in found.coverages if (one.estimator, one.seeds) == (name, seeds))

    values = [value for name in ("as described", "pooled") for value in (of(name).fit, of(name).generality)]
    return [str(seeds), *(f"{value:.1%}" for value in values)]

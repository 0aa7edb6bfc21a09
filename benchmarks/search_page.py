"""Writes `docs/search.md` and its picture from replayed searches; nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis import templates
from benchmarks.search_table import LANGUAGE, RANKS, RATES, VISION

if TYPE_CHECKING:
    from benchmarks.search_measure import Table


Shares = Mapping[str, Sequence[Sequence[float]]]

COHORT = 8
BUDGETS = (16, 24, 32, 48)
RANDOM = "random"
COLOURS = {"tpe": "#0072B2", "gp": "#009E73", "nsga2": "#D55E00", RANDOM: "#8C8C8C"}
NAMES = {"tpe": "TPE", "gp": "GP", "nsga2": "NSGA-II", RANDOM: "random"}
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class SamplerResult:
    """One row of the table: the share found at each budget, as text, and the budgets at which it beats random."""

    name: str
    searches: int
    shares: list[str]
    better_at: list[int]
    is_compared: bool


def share_at(shares: Sequence[Sequence[float]], budget: int) -> np.ndarray:
    """Return the share of the hypervolume that each search had found after `budget` trials: (searches,)."""
    return np.array([one[min(budget // COHORT, len(one)) - 1] for one in shares])


def p_value(shares: Shares, sampler: str, budget: int) -> float:
    """Return the one-sided p of Wilcoxon's test, paired by seed, that a sampler finds more than random.

    It is multiplied by the number of samplers compared (Bonferroni).
    """
    from scipy.stats import wilcoxon

    found, random = share_at(shares[sampler], budget), share_at(shares[RANDOM], budget)
    common = min(len(found), len(random))
    differences = found[:common] - random[:common]
    if not differences.any():
        return 1.0
    test: Any = wilcoxon(differences, alternative="greater")
    return min(1.0, (len(shares) - 1) * float(test.pvalue))


def page(kept: Mapping[str, Any], table: Table) -> str:
    """Return the page: the recorded trials, the share each sampler found, and the limits of the comparison."""
    outcomes = list(table.outcomes.values())
    return templates.markdown(
        "benchmarks",
        "search.md",
        language=LANGUAGE,
        vision=VISION,
        ranks=RANKS,
        rates=[f"{rate:g}" for rate in RATES],
        cohort=COHORT,
        budgets=BUDGETS,
        machine=kept["machine"],
        trials=len(outcomes),
        states={state: sum(one.state == state for one in outcomes) for state in ("complete", "pruned", "failed")},
        feasible=sum(one.is_feasible for one in outcomes),
        samplers=[_result(kept["shares"], name) for name in COLOURS if name in kept["shares"]],
    )


def _result(shares: Shares, name: str) -> SamplerResult:
    is_compared = name != RANDOM
    return SamplerResult(
        name=NAMES[name],
        searches=len(shares[name]),
        shares=[_share(shares, name, budget) for budget in BUDGETS],
        better_at=[one for one in BUDGETS if is_compared and p_value(shares, name, one) < SIGNIFICANT],
        is_compared=is_compared,
    )


def _share(shares: Shares, name: str, budget: int) -> str:
    low, median, high = np.quantile(share_at(shares[name], budget), (0.25, 0.5, 0.75))
    text = f"{median:.2f} ({low:.2f}–{high:.2f})"
    return text if name == RANDOM else f"{text}, p {_p(p_value(shares, name, budget))}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def draw(shares: Shares, path: Path) -> None:
    """Draw the median share found over the number of trials, a line for each sampler with its quartiles as a band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.2))
    for name in (one for one in COLOURS if one in shares):
        found = np.array(shares[name])
        trials = COHORT * np.arange(1, found.shape[1] + 1)
        low, median, high = np.quantile(found, (0.25, 0.5, 0.75), axis=0)
        axes.plot(trials, median, color=COLOURS[name], marker="o", markersize=4, label=NAMES[name])
        axes.fill_between(trials, low, high, color=COLOURS[name], alpha=0.13, linewidth=0)
    axes.set_xlabel("trials run")
    axes.set_ylabel("share of the hypervolume found\n(median, quartiles)")
    axes.set_ylim(0, 1.02)
    axes.grid(color="#EEEEEE", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

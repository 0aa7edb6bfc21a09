"""Writes `docs/search.md` and its picture from replayed searches; nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
HOW = (
    "It asks Optuna for a cohort at a time and tells it what came of every trial; `<storage>/<experiment>/search.db` "
    "(SQLite) keeps both. A sampler is made anew for each cohort, seeded by `--seed` and the number of trials so far: "
    "a search that was stopped goes on with the same command as if it had not been, a larger `--trials` extends it, "
    "and other settings are refused by name.",
    "A completed trial is told with the objectives of its best admissible eval. Every guard is a constraint: its "
    "distance to the limit, above 0 where it is broken; one more says how far the best eval is from being admissible. "
    "A pruned trial is told as pruned, one that is invalid, infeasible or failed as failed, for it says nothing about "
    "its settings.",
    "Two points that train the same adapter are one trial: a rate of a tower without adapter does not count, and no "
    "adapter at all is the baseline, no arm. A sampler that repeats itself is told what is known and asked again, "
    "four times; then points are drawn at random.",
    "`--vary NAME=low..high` draws real numbers by their logarithm: the rates, `weight_decay`, `warmup_ratio`, "
    "`dropout` and `alpha_ratio`. What is whole, and `epochs`, takes values: `rank=8,16,32`.",
    "Trials of one cohort train together only where quantization and steps agree; `--vary quantization=nf4-double` "
    "and `--vary epochs=1` keep a whole cohort in one pass.",
    "`--scheduler asha` or `median` (Ray Tune's) ends trials that fall behind the others of their cohort, on a search "
    "with one objective, sought the way its metric is better, and on any study but curriculum and unfreeze; they are "
    "pruned(scheduler). An option that is misspelt or repeated, a metric that is not measured, and a scheduler that "
    "could only act after the last eval are refused. Ray judges a report against those that came before it, so the "
    "first of a cohort at an eval has no peers there; evals that follow each other within a second or two, as on the "
    "miniature's smallest arms, may be over before the verdict.",
)


def share_at(shares: Sequence[Sequence[float]], budget: int) -> np.ndarray:
    """Return the share of the hypervolume that each search had found after so many trials."""
    return np.array([one[min(budget // COHORT, len(one)) - 1] for one in shares])


def p_value(shares: Shares, sampler: str, budget: int) -> float:
    """Return Wilcoxon's one-sided p, paired by seed, that a sampler finds more than random; times those compared."""
    from scipy.stats import wilcoxon

    mine, luck = share_at(shares[sampler], budget), share_at(shares[RANDOM], budget)
    common = min(len(mine), len(luck))
    differences = mine[:common] - luck[:common]
    if not differences.any():
        return 1.0
    found: Any = wilcoxon(differences, alternative="greater")
    return min(1.0, (len(shares) - 1) * float(found.pvalue))


def page(kept: Mapping[str, Any], table: Table) -> str:
    """Return the page: what was recorded, what each sampler found of it, and what that does not say."""
    shares: Shares = kept["shares"]
    return (
        "\n".join([*_method(kept, table), *_results(shares), *_verdict(shares), *_notes(table), *_how()]).rstrip()
        + "\n"
    )


def _method(kept: Mapping[str, Any], table: Table) -> list[str]:
    found, machine = list(table.outcomes.values()), kept["machine"]
    states = {state: sum(one.state == state for one in found) for state in ("complete", "pruned", "failed")}
    feasible = sum(one.is_feasible for one in found)
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return [
        "# Does a sampler find more than luck?",
        "",
        "`python -m sweeps.search` asks a sampler for trials. Whether that beats drawing them at random is measured by "
        "replay: every trial of a small space was run once for real, and searches then look results up in that table.",
        "",
        f"- The space: language layers {_listed(LANGUAGE)} × vision blocks {_listed(VISION)} × rank {_listed(RANKS)} × "
        f"language rates {rates} (vision keeps its ratio), {len(found)} trials of the miniature as `sweeps.stage4` has "
        f"them; recorded on {machine['date']}, {machine['cpu']}, {machine['versions']}, by "
        "`python -m benchmarks.search_replay record`.",
        f"- What they left: {states['complete']} complete, {states['pruned']} pruned by a guard, {states['failed']} "
        f"failed; {feasible} have an admissible eval.",
        "- Two objectives, exact answers and irrelevant-image pass, of each trial's best admissible eval. Measured is "
        "the hypervolume of the admissible trials found so far (moocore; against no exact answer and the guard's "
        "floor), as a share of the whole table's.",
        f"- {COHORT} trials are asked for at a time, as in a sweep; no trial twice; "
        + ", ".join(f"{NAMES[one]} {len(found)} searches" for one, found in shares_of(kept).items())
        + ".",
        "",
        "![Share of the hypervolume found](images/search.png)",
        "",
    ]


def shares_of(kept: Mapping[str, Any]) -> Shares:
    """Return the replayed shares by sampler, in the order in which they are shown."""
    return {name: kept["shares"][name] for name in COLOURS if name in kept["shares"]}


def _results(shares: Shares) -> list[str]:
    lines = [
        "| sampler | " + " | ".join(f"{budget} trials" for budget in BUDGETS) + " |",
        "| --- | " + " | ".join("---" for _ in BUDGETS) + " |",
    ]
    for name in (one for one in COLOURS if one in shares):
        cells = [_cell(shares, name, budget) for budget in BUDGETS]
        lines.append(f"| {NAMES[name]} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "Median (quartiles) of the share found; p: paired by seed against random, Wilcoxon, one-sided, times the "
        f"{len(shares) - 1} samplers compared.",
        "",
    ]


def _cell(shares: Shares, name: str, budget: int) -> str:
    low, median, high = np.quantile(share_at(shares[name], budget), (0.25, 0.5, 0.75))
    text = f"{median:.2f} ({low:.2f}–{high:.2f})"
    return text if name == RANDOM else f"{text}, p {_p(p_value(shares, name, budget))}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _verdict(shares: Shares) -> list[str]:
    lines = []
    for name in (one for one in COLOURS if one in shares and one != RANDOM):
        better = [budget for budget in BUDGETS if p_value(shares, name, budget) < SIGNIFICANT]
        beats = (
            f"beats random at {_listed(better)} trials" if better else "does not beat random at any of these budgets"
        )
        lines.append(f"- **{NAMES[name]} {beats}.**")
    return [*lines, ""]


def _notes(table: Table) -> list[str]:
    return [
        "What this does not say:",
        "",
        f"- It is one space of {len(table.outcomes)} trials, one task, and one training seed a trial. The space of "
        "`sweeps.search` has nine dimensions, two of them continuous: there, luck finds less.",
        "- The spread is that of the sampler's seed; what training seeds add is not in the table.",
        "- A pruned trial is told as pruned. Optuna's TPE learns from it; its NSGA-II and GP read completed trials "
        "only, so to them it is a trial that was not run. Telling it as complete, with the guards it broke, gained "
        "nothing here (`docs/log.md`).",
        "",
    ]


def _how() -> list[str]:
    return ["## How a search works", "", *(f"- {text}" for text in HOW), ""]


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)


def draw(shares: Shares, path: Path) -> None:
    """Draw the median share over the trials asked for, with the quartiles of each sampler and of random as bands."""
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

"""Writes `docs/benchmark.md` from the figures in `docs/benchmark.json`; nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis import templates
from benchmarks.timing import Spread

Values = Mapping[str, Any]

ARMS = {
    "stock": "0 stock recipe",
    "careful": "0a a careful user's loop",
    "solo": "1 alone",
    "apart": "2 cohort, nothing shared",
    "shared": "3 cohort, shared prefix",
    "batched": "4 + batched evals, guards",
}
HEADER = (
    "arm", "s a step", "trial-samples/s", "over alone", "model", "of model", "makespan s", "evals s", "peak MB",
    "loss difference", "passes",
)  # fmt: skip


def page(results: Values) -> str:
    """Return the page: goals and figures, the sweep as users run it, then every shape."""
    shapes = results.get("shapes", {})
    text = templates.markdown(
        "benchmarks",
        "benchmark.md",
        goals=_goals(shapes),
        sweep=results.get("sweep"),
        shapes=list(shapes.values()),
        machine=_machine,
        family_table=family_table,
    )
    return text.rstrip() + "\n"


@dataclass(frozen=True)
class Goal:
    """A goal: how many times faster than another arm an arm must be on a shape, or at what share of the FLOP model."""

    shape: str
    family: str
    arm: str
    than: str
    at_least: float
    of_model: bool = False

    def line(self, families: Values) -> str:
        """Return the goal and its figure as one row of the table."""
        arms = {one["arm"]: one for one in families[self.family]["arms"]}
        found = ratio(arms[self.than], arms[self.arm])
        what = f"{ARMS[self.arm][2:]} over {ARMS[self.than][2:]}"
        if not self.of_model:
            return f"| {self.shape}, {self.family}: {what} | {found:.2f} times | ≥ {self.at_least:g} times |"
        share = found / model_ratio(arms[self.than], arms[self.arm])
        return f"| {self.shape}, {self.family}: {what} | {share:.0%} of the FLOP model's | ≥ {self.at_least:.0%} |"


GOALS = (
    *(Goal("deep", name, "shared", "solo", 0.85, of_model=True) for name in ("A", "B", "C", "D", "full", "A1x24")),
    Goal("4b", "full", "shared", "stock", 2.4),
    Goal("4b", "full", "shared", "solo", 1.4),
    Goal("4b", "A1x24", "shared", "stock", 20),
    Goal("4b", "A1x24", "shared", "solo", 8),
)


def ratio(slow: Values, fast: Values) -> float:
    """Return how many times faster the steps of one arm are than another's."""
    return Spread(tuple(slow["step_seconds"])).median / Spread(tuple(fast["step_seconds"])).median


def model_ratio(slow: Values, fast: Values) -> float:
    """Return how many times fewer FLOPs one arm takes than another."""
    return slow["flops"] / fast["flops"]


def _goals(shapes: Values) -> list[str]:
    return [
        goal.line(shapes[goal.shape]["families"])
        for goal in GOALS
        if goal.shape in shapes and goal.family in shapes[goal.shape]["families"]
    ]


def family_table(shape: Values, family: Values) -> list[str]:
    """Return the arms of one family as a table, with the share of the device's peak FLOPs where it is known."""
    arms = {one["arm"]: one for one in family["arms"]}
    header = (*HEADER, "of peak") if shape["peak_flops"] else HEADER
    lines = [_row(header), _row(["---"] * len(header))]
    for one in family["arms"]:
        seconds = Spread(tuple(one["step_seconds"]))
        measured, modelled = ratio(arms["solo"], one), model_ratio(arms["solo"], one)
        cells = [
            ARMS[one["arm"]], seconds.text(3), f"{family['trials'] * shape['rows'] / seconds.median:,.0f}",
            f"{measured:.2f}", f"{modelled:.2f}", f"{measured / modelled:.0%}",
            Spread(tuple(one["makespan_seconds"])).text(1), Spread(tuple(one["eval_seconds"])).text(1),
            f"{one['peak_mb']:,.0f}", _difference(one), one["widths"],
        ]  # fmt: skip
        if shape["peak_flops"]:
            cells.append(f"{one['flops'] / seconds.median / shape['peak_flops']:.0%}")
        lines.append(_row(cells))
    return lines


def _difference(arm: Values) -> str:
    if arm["arm"] in ("stock", "careful", "solo"):
        return "-"
    return f"{arm['loss_difference']:.1e}" + ("" if arm["same_verdicts"] else ", other verdicts")


def _machine(machine: Values) -> str:
    return ", ".join([machine["date"], machine["cpu"], machine["gpu"], machine["versions"]])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

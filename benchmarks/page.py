"""Writes `docs/benchmark.md` from the figures kept beside it; nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.timing import Spread

Values = Mapping[str, Any]

ARMS = {
    "stock": "0 stock recipe",
    "solo": "1 alone",
    "apart": "2 cohort, nothing shared",
    "shared": "3 cohort, shared prefix",
    "batched": "4 + batched evals, guards",
}
HEADER = (
    "arm", "s a step", "trial-samples/s", "over alone", "model", "of model", "makespan s", "evals s", "peak MB",
    "loss difference", "passes",
)  # fmt: skip
METHOD = (
    "**s a step**: seconds in which all trials of the family take one training step; the first step of every run "
    "warms up and is not counted. Median (smallest–largest) of the repetitions, whose order of arms rotates. Arms 1 "
    "to 4 share one process, one resident base, and the threads named; arm 0 has a process a trial and as many "
    "threads.",
    "**over alone**: arm 1's seconds a step over this arm's. **model**: the same ratio of FLOPs, counted by "
    "`benchmarks/flops.py` for this shape, this batch and these passes; **of model** is their quotient.",
    "**makespan**: placing the adapters, calibrating the passes, training, one eval, checkpoints; loading the base is "
    "in arm 0 only, which does it for every trial. A benchmark is short, so calibration weighs more here than in a "
    "study. Arm 4 trains as arm 3 does, and is timed with its evals only.",
    "**loss difference**: the largest, over all trials and steps, from the same trial alone. Arm 0 draws other dropout "
    "masks, so there is nothing to compare.",
    "All arms have the same steps, rows, order, evals and live guards; **passes** is how many trials each pass holds.",
    "Arm 0 is measured on A1, B2, C2 and D2; every other trial is counted as the one of its letter, for that recipe "
    "costs the same whatever is adapted.",
)


def page(results: Values) -> str:
    """Return the page: the sweep as users run it, then every shape, with goals beside figures."""
    shapes = results.get("shapes", {})
    lines = ["# Benchmark", "", "`make bench`. Figures depend on the machine; no test asserts them.", ""]
    lines += _goals(shapes)
    if "sweep" in results:
        lines += _sweep(results["sweep"])
    if shapes:
        lines += ["## What sharing saves", "", "![Measured and modelled ratios](images/benchmark.png)", ""]
        lines += [*(f"- {text}" for text in METHOD), ""]
    for shape in shapes.values():
        lines += _shape(shape)
    return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True)
class Goal:
    """What was aimed at: how often faster (or what share of the model) one arm is than another on a shape."""

    shape: str
    family: str
    arm: str
    than: str
    at_least: float
    of_model: bool = False

    def line(self, families: Values) -> str:
        """Write the goal with its figure."""
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
    met = [
        goal.line(shapes[goal.shape]["families"])
        for goal in GOALS
        if goal.shape in shapes and goal.family in shapes[goal.shape]["families"]
    ]
    return ["| training steps | measured | goal |", "| --- | --- | --- |", *met, ""] if met else []


def _sweep(sweep: Values) -> list[str]:
    columns = ("trial", "verdict", "step", "exact", "irrelevant pass", "hallucination", "train s", "eval s")
    lines = ["## The sweep as users run it", "", f"The miniature, {_machine(sweep['machine'], threads=False)}.", ""]
    lines += ["| figure | measured | goal |", "| --- | --- | --- |"]
    lines += [f"| {one['name']} | {one['value']} | {one['goal']} |" for one in sweep["figures"]]
    lines += ["", _row(columns), _row(["---"] * len(columns))]
    for one in sweep["trials"]:
        shown = [one["trial"], one["verdict"], str(one["step"])]
        shown += [f"{one[key]:.2f}" for key in ("exact_match", "irrelevant_pass", "hallucination")]
        shown += [f"{one[key]:.1f}" for key in ("train_seconds", "eval_seconds")]
        lines.append(_row(shown))
    return [*lines, ""]


def _shape(shape: Values) -> list[str]:
    counts = shape["counts"]
    lines = [f"### {shape['title']}", "", f"{_machine(shape['machine'])}.", ""]
    lines += [
        f"A step reads {shape['rows']} rows; a batch holds {counts['rows']} of {counts['row_tokens']} tokens, "
        f"{counts['prefix_tokens']} before the picture, with {counts['labels']} labels and {counts['patches']} patches "
        f"in all. Trials of {shape['steps']} steps, {shape['repeats']} repetitions.",
        "",
    ]
    for name, family in shape["families"].items():
        lines += [f"#### {name}, {family['trials']} trials", "", *family_table(shape, family), ""]
    return [*lines, *_stock(shape)]


def family_table(shape: Values, family: Values) -> list[str]:
    """Return the arms of one family as a table; with the share of the device's peak where that is known."""
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
    if arm["arm"] in ("stock", "solo"):
        return "-"
    return f"{arm['loss_difference']:.1e}" + ("" if arm["same_verdicts"] else ", other verdicts")


def _stock(shape: Values) -> list[str]:
    lines = ["One trial by the stock recipe, in seconds:", "", "| trial | whole process | until it is loaded |"]
    lines[-1] += " training | eval | adapter tensors without a gradient |"
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, one in shape["stock"].items():
        shown = (f"{one[key]:.1f}" for key in ("whole_seconds", "load_seconds", "training_seconds", "eval_seconds"))
        lines.append(_row([name, *shown, str(shape["untrained"][name])]))
    if any(shape["untrained"].values()):
        lines += [
            "",
            "Its reentrant checkpointing lets no gradient reach adapters in the vision tower: they stay as they were "
            "made, and nothing says so.",
        ]
    return [*lines, ""]


def _machine(machine: Values, threads: bool = True) -> str:
    parts = [machine["date"], machine["cpu"], machine["gpu"], machine["versions"]]
    return ", ".join([*parts, f"{machine['threads']} threads in every arm"] if threads else parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

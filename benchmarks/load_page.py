"""Writes `docs/load.md` from the figures in `docs/load.json`; nothing here measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis import templates

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A row of the table: what is measured, how it is read from the figures of one sweep, and the goal."""

    name: str
    read: Callable[[Values], str]
    goal: str = ""

    def row(self, sweeps: Sequence[Values]) -> str:
        """Return the row with the figure of each sweep."""
        return " | ".join([f"| {self.name}", *(self.read(one) for one in sweeps), f"{self.goal} |"])


def _command(name: str) -> Callable[[Values], str]:
    def read(sweep: Values) -> str:
        cost = sweep["commands"].get(name)
        if cost is None:
            return "-"
        return f"{cost['wall_seconds']:.1f} s ({cost['cpu_seconds']:.1f} s of CPU, {cost['peak_memory_mb']:,.0f} MB)"

    return read


def _driver(form: str, value: Callable[[Values], float]) -> Callable[[Values], str]:
    return lambda sweep: form.format(value(sweep["driver"])) if "driver" in sweep else "-"


LINES = (
    Line("driver, CPU seconds a trial", _driver("{:.3f}", lambda one: one["cpu_seconds"] / one["trials"]), "≤ 0.3"),
    Line("of these the mirror's", _driver("{:.3f}", lambda one: one["mirror_cpu_seconds"] / one["trials"])),
    Line("driver's memory at a quarter, MB", _driver("{:,.0f}", lambda one: one["memory_mb"][0])),
    Line("at half", _driver("{:,.0f}", lambda one: one["memory_mb"][1])),
    Line("at three quarters", _driver("{:,.0f}", lambda one: one["memory_mb"][2])),
    Line("at the end", _driver("{:,.0f}", lambda one: one["memory_mb"][3]), "flat"),
    Line("MLflow behind at the end, seconds", _driver("{:.1f}", lambda one: one["lag_seconds"]), "< 5"),
    Line("trials in MLflow that ended", _driver("{:,.0f}", lambda one: one["copied"])),
    Line("trials that ended", _driver("{:,.0f}", lambda one: one["ended"]), "as many"),
    Line("the whole sweep, seconds", _driver("{:,.0f}", lambda one: one["wall_seconds"])),
    Line("`--resume` of the finished sweep", _command("--resume"), "< 10 s"),
    Line("`analysis pareto`", _command("analysis pareto"), "< 10 s for 2,000"),
    Line("`analysis seeds`", _command("analysis seeds"), "< 60 s"),
    Line("`analysis report`", _command("analysis report"), "< 60 s"),
    Line("`analysis compare C1 D2`", _command("analysis compare"), "< 60 s"),
    Line("`footprint status`", _command("footprint status")),
    Line("`--sync`, nothing is missing", _command("--sync"), "< 60 s"),
    Line("`--sync` to an empty store", _command("--sync to an empty store")),
)  # fmt: skip


def page(results: Values) -> str:
    """Return the page: what a sweep costs by its size, then what a plan costs."""
    sizes = sorted(results["sweeps"], key=int)
    sweeps = [results["sweeps"][size] for size in sizes]
    text = templates.markdown(
        "benchmarks",
        "load.md",
        machine=", ".join(results["machine"][key] for key in ("date", "cpu", "versions")),
        sizes=[f"{int(size):,}" for size in sizes],
        rows=[line.row(sweeps) for line in LINES],
        notes=results.get("notes", []),
        plans=[_plan_row(size, results["plans"][size]) for size in sorted(results["plans"], key=int)],
    )
    return text.rstrip() + "\n"


def _plan_row(size: str, cost: Values) -> str:
    figures = f"{cost['wall_seconds']:.1f} | {cost['cpu_seconds']:.1f} | {cost['peak_memory_mb']:,.0f}"
    return f"| {int(size):,} | {figures} |"

"""Times the main job as its users run it, each figure in a process of its own: `make bench`.

Writes `docs/benchmark.md`: the whole default sweep, the price of `--help`, of the frontier, the workers' memory, what
the miniature's base can do, and what a larger budget adds.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sweeps.launch import Launch, run
from sweeps.space import Axes
from sweeps.stage4 import STUDY
from trainables.record import Record, read_json, records_under

HELP_REPEATS = 5
LARGER_BUDGET = 3
COMMANDS = {
    "python -m sweeps.stage4": [sys.executable, "-m", "sweeps.stage4"],
    "analysis": [sys.executable, "-m", "analysis.cli"],
    "analysis pareto": [sys.executable, "-m", "analysis.cli", "pareto"],
    "python -m trainables.mini": [sys.executable, "-m", "trainables.mini"],
}


@dataclass(frozen=True)
class Figure:
    """One line of the page: what was measured, what came out, what was aimed at."""

    name: str
    value: str
    goal: str


def seconds_of(command: list[str], directory: Path) -> float:
    """Run `command` in `directory` and return its wall seconds; its output goes to our stderr when it fails."""
    environment = {**os.environ, "COLUMNS": "100"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if done.returncode not in (0, 3):
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"`{' '.join(command)}` ended with {done.returncode}")
    return time.perf_counter() - began


def help_figures(directory: Path) -> list[Figure]:
    """Time `--help` of every command, the median of several runs."""
    figures = []
    for name, command in COMMANDS.items():
        times = [seconds_of([*command, "--help"], directory) for _ in range(HELP_REPEATS)]
        spread = f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"
        figures.append(Figure(f"`{name} --help`", spread, "< 0.3 s"))
    return figures


def sweep_figures(directory: Path) -> tuple[list[Figure], list[Record]]:
    """Time the twelve placements, Ray start and probes included, and the frontier drawn from them."""
    stage4, pareto = COMMANDS["python -m sweeps.stage4"], COMMANDS["analysis pareto"]
    seconds_of([*stage4, "--dry-run"], directory)  # compiles what Python compiles once
    sweep = seconds_of(stage4, directory)
    frontier = [seconds_of([*pareto, "--experiment", "stage4"], directory) for _ in range(3)]
    records = records_under(directory / "runs" / "stage4" / "trials")
    memory = max(one.metrics.get("peak_memory_mb", 0.0) for record in records for one in record.measurements())
    return [
        Figure("the twelve placements at the default budget", f"{sweep:.0f} s", "< 300 s"),
        Figure("`analysis pareto --experiment stage4`", f"{statistics.median(frontier):.1f} s", "< 6 s"),
        Figure("largest worker", f"{memory:,.0f} MB", "< 1,500 MB"),
        Figure("battery, share of all trials' seconds", f"{battery_share(records):.1%}", "<= 5 %"),
    ], records


def battery_share(records: list[Record]) -> float:
    """Return the seconds that trials spent proving themselves, as a share of all their seconds."""
    proving, working = 0.0, 0.0
    for record in records:
        proof = record.directory / "battery.json"
        proving += read_json(proof).get("seconds", 0.0) if proof.exists() else 0.0
        last = [one.metrics for one in record.measurements() if one.kind == "train"][-1]
        working += last["train_seconds"] + last["eval_seconds"]
    return proving / (proving + working)


def learning_figures(directory: Path, records: list[Record]) -> list[Figure]:
    """Say what the base can do, what the best admissible arm learned, and what a larger budget adds to it."""
    by_name = {record.spec().name: record for record in records}
    base = by_name["A0"].evals()[0].metrics
    admissible = {name: best for name, record in by_name.items() if (best := record.best()) and name != "A0"}
    name = max(admissible, key=lambda one: admissible[one].metrics["exact_match"])
    grown = unguarded_fit(directory, name, LARGER_BUDGET * STUDY.miniature["steps"])
    return [
        Figure("base: irrelevant-image pass", f"{base['irrelevant_pass']:.0%}", "≥ 95 %"),
        Figure("base: text tasks", f"{base['text_retention']:.0%}", "≥ 95 %"),
        Figure("base: the task it was never taught", f"{base['exact_match']:.0%}", "< 5 %"),
        Figure(f"best admissible arm ({name})", f"{admissible[name].metrics['exact_match']:.0%} exact", "≥ 40 %"),
        Figure(f"the same arm, {LARGER_BUDGET} times the steps, no guards", f"{grown:.0%} exact", "more"),
    ]


def unguarded_fit(directory: Path, arm: str, steps: int) -> float:
    """Train one arm for `steps` without guards, which may stop it long before; return its last exact answers."""
    launch = Launch(
        storage=directory / "runs",
        experiment="larger",
        tracking_uri=f"sqlite:///{directory / 'mlflow.db'}",
        console=Console(quiet=True),
    )
    records = run(replace(STUDY, guards=()), Axes(only=(arm,), fixed={"steps": steps}), launch)
    return records[-1].evals()[-1].metrics["exact_match"]


def page(figures: list[Figure], records: list[Record]) -> str:
    """Return the page of all figures, with machine and date."""
    lines = [
        "# Benchmark",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), no GPU, "
        f"Python {platform.python_version()}. Figures depend on the machine; no test asserts them.",
        "",
        "| figure | measured | goal |",
        "| --- | --- | --- |",
        *(f"| {one.name} | {one.value} | {one.goal} |" for one in figures),
        "",
        "| trial | verdict | step | exact | irrelevant pass | hallucination | train s | eval s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in records:
        last: dict[str, float] = {}
        for measurement in record.measurements():
            last.update(measurement.metrics)
        verdict = record.verdict()
        lines.append(
            f"| {record.spec().name} | {verdict} | {verdict.step if verdict else '-'} | {last['exact_match']:.2f} "
            f"| {last['irrelevant_pass']:.2f} | {last['hallucination']:.2f} | {last['train_seconds']:.1f} "
            f"| {last['eval_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(out: Annotated[Path, typer.Option(help="Where the page is written.")] = Path("docs/benchmark.md")) -> None:
    """Measure everything and write the page; takes about seven minutes on two idle cores."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        typer.echo("help ...")
        figures = help_figures(directory)
        typer.echo("the default sweep ...")
        timed, records = sweep_figures(directory)
        typer.echo("a larger budget ...")
        text = page([*timed, *figures, *learning_figures(directory, records)], records)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)

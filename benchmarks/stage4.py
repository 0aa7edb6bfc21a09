"""Times `python -m sweeps.stage4` as users run it, each figure in its own process.

Measures the default sweep, the same trials without cohorts and by the stock recipe, `--help`, the frontier, the
workers' memory, the scores of the miniature's base, and the effect of a larger budget.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import machine, run_module
from sweeps.execution.options import Launch
from sweeps.launch import run
from sweeps.planning.space import Axes
from sweeps.stage4 import STUDY
from trainables.errors import InfrastructureError
from trainables.io.files import read_json
from trainables.record import Record, records_under

HELP_REPEATS = 5
LARGER_BUDGET = 3
QUICK = ("--only", "A1,C1", "--steps", "4", "--eval-every", "2", "--force")
COMMANDS = {
    "python -m sweeps.stage4": [sys.executable, "-m", "sweeps.stage4"],
    "analysis": [sys.executable, "-m", "analysis.cli"],
    "analysis pareto": [sys.executable, "-m", "analysis.cli", "pareto"],
    "python -m trainables.mini": [sys.executable, "-m", "trainables.mini"],
}


@dataclass(frozen=True)
class Figure:
    """One line of the page: what was measured, the value, and the goal."""

    name: str
    value: str
    goal: str


def measure_sweep(directory: Path, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the sweep; returns its figures and the verdicts of its trials as plain values."""
    say("sweep: help")
    figures = help_figures(directory)
    arguments = QUICK if quick else ()
    timed, records = sweep_figures(directory, arguments, say)
    if not quick:
        say("sweep: a larger budget")
        figures += learning_figures(directory, records)
    return {
        "machine": machine("cpu"),
        "figures": [asdict(one) for one in (*timed, *figures)],
        "trials": [trial_row(record) for record in records],
    }


def seconds_of(command: Sequence[str], directory: Path) -> float:
    """Run `command` in `directory` and return its wall seconds; on failure its output is written to stderr."""
    environment = {**os.environ, "COLUMNS": "100"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if done.returncode not in (0, 3):
        sys.stderr.write(done.stdout + done.stderr)
        raise InfrastructureError(f"`{' '.join(command)}` ended with {done.returncode}")
    return time.perf_counter() - began


def help_figures(directory: Path) -> list[Figure]:
    """Time `--help` of every command: the median of several runs."""
    figures = []
    for name, command in COMMANDS.items():
        times = [seconds_of([*command, "--help"], directory) for _ in range(HELP_REPEATS)]
        spread = f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"
        figures.append(Figure(f"`{name} --help`", spread, "< 0.3 s"))
    return figures


def sweep_figures(
    directory: Path, arguments: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Figure], list[Record]]:
    """Time the sweep with cohorts, without them and by the stock recipe, and drawing the frontier.

    Each time runs from the start of a process to its end.
    """
    stage4, pareto = [*COMMANDS["python -m sweeps.stage4"], *arguments], COMMANDS["analysis pareto"]
    seconds_of([*stage4, "--dry-run"], directory)  # writes Python's bytecode caches before anything is timed
    say("sweep: every trial alone")
    solo = seconds_of([*stage4, "--cohort", "1", "--experiment", "alone"], directory)
    say(f"{solo:.0f} s\nsweep: cohorts, the default")
    sweep = seconds_of(stage4, directory)
    say(f"{sweep:.0f} s\nsweep: the stock recipe")
    stock = stock_seconds(directory)
    say(f"{stock:.0f} s")
    frontier = [seconds_of([*pareto, "--experiment", "stage4"], directory) for _ in range(3)]
    records = records_under(directory / "runs" / "stage4" / "trials")
    alone = records_under(directory / "runs" / "alone" / "trials")
    memory = max(one.metrics.get("peak_memory_mb", 0.0) for record in records for one in record.measurements())
    return [
        Figure("the twelve placements at the default budget, cohorts", f"{sweep:.0f} s", "< 300 s"),
        Figure("the same, every trial alone (`--cohort 1`)", f"{solo:.0f} s = {solo / sweep:.2f} times", "≥ 2 times"),
        Figure("the same by the stock recipe", f"{stock:.0f} s = {stock / sweep:.2f} times", "≥ 6 times"),
        Figure("trials with the same verdict in a cohort and alone", agreement(records, alone), "all"),
        Figure("`analysis pareto --experiment stage4`", f"{statistics.median(frontier):.1f} s", "< 6 s"),
        Figure("largest worker", f"{memory:,.0f} MB", "< 1,500 MB"),
        Figure("self-test, share of all trials' seconds", f"{self_test_share(records):.1%}", "<= 5 %"),
    ], records


def stock_seconds(directory: Path) -> float:
    """Time the stock recipe under Ray Tune on the trials of the sweep without cohorts, with equal evals and stops."""
    began = time.perf_counter()
    trials, out = directory / "runs" / "alone" / "trials", directory / "stock"
    run_module("benchmarks.stock", "sweep", str(trials), str(out), "--at-once", str(os.cpu_count() or 1))
    return time.perf_counter() - began


def agreement(records: Sequence[Record], others: Sequence[Record]) -> str:
    """Count the trials that ended in both sweeps with the same verdict at the same step."""
    ends = [{record.name: record.verdict() for record in one} for one in (records, others)]
    same = sum((a := ends[0][name]) is not None and (b := ends[1].get(name)) is not None
               and (a.kind, a.cause, a.step) == (b.kind, b.cause, b.step) for name in ends[0])  # fmt: skip
    return f"{same} of {len(ends[0])}"


def self_test_share(records: Sequence[Record]) -> float:
    """Return the seconds of the trials' self-tests, as a share of all their seconds."""
    test_seconds, other_seconds = 0.0, 0.0
    for record in records:
        report = record.directory / "battery.json"
        test_seconds += read_json(report).get("seconds", 0.0) if report.exists() else 0.0
        last = [one.metrics for one in record.measurements() if one.kind == "train"][-1]
        other_seconds += last["train_seconds"] + last["eval_seconds"]
    return test_seconds / (test_seconds + other_seconds)


def learning_figures(directory: Path, records: Sequence[Record]) -> list[Figure]:
    """Return the scores of the base, of the best admissible arm, and of that arm with a larger budget."""
    by_name = {record.spec().name: record for record in records}
    base = by_name["A0"].evals()[0].metrics
    admissible = {name: best for name, record in by_name.items() if (best := record.best()) and name != "A0"}
    name = max(admissible, key=lambda one: admissible[one].metrics["exact_match"])
    larger = unguarded_fit(directory, name, LARGER_BUDGET * STUDY.miniature["steps"])
    return [
        Figure("base: irrelevant-image pass", f"{base['irrelevant_pass']:.0%}", "≥ 95 %"),
        Figure("base: text tasks", f"{base['text_retention']:.0%}", "≥ 95 %"),
        Figure("base: the task it was not trained on", f"{base['exact_match']:.0%}", "< 5 %"),
        Figure(f"best admissible arm ({name})", f"{admissible[name].metrics['exact_match']:.0%} exact", "≥ 40 %"),
        Figure(f"the same arm, {LARGER_BUDGET} times the steps, no guards", f"{larger:.0%} exact", "more"),
    ]


def unguarded_fit(directory: Path, arm: str, steps: int) -> float:
    """Train one arm for `steps` without guards, which could stop it early; returns the exact match of its last eval."""
    launch = Launch(
        storage=directory / "runs",
        experiment="larger",
        tracking_uri=f"sqlite:///{directory / 'mlflow.db'}",
        console=Console(quiet=True),
    )
    records = run(replace(STUDY, guards=()), Axes(only=(arm,), fixed={"steps": steps}), launch)
    return records[-1].evals()[-1].metrics["exact_match"]


def trial_row(record: Record) -> dict[str, Any]:
    """Return the verdict and the last metrics of a trial as plain values."""
    last: dict[str, float] = {}
    for measurement in record.measurements():
        last.update(measurement.metrics)
    verdict = record.verdict()
    kept = ("exact_match", "irrelevant_pass", "hallucination", "train_seconds", "eval_seconds")
    return {
        "trial": record.spec().name,
        "verdict": str(verdict),
        "step": verdict.step if verdict else None,
        **{name: last[name] for name in kept},
    }

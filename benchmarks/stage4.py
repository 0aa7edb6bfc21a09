"""Times the main job as its users run it, each figure in a process of its own.

The whole default sweep, the same with every trial alone and by the stock recipe, the price of `--help`, of the
frontier, the workers' memory, what the miniature's base can do, and what a larger budget adds.
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
    """One line of the page: what was measured, what came out, what was aimed at."""

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


def sweep_figures(
    directory: Path, arguments: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Figure], list[Record]]:
    """Time the sweep by each engine, from the start of its process to its end, and the frontier drawn from it."""
    stage4, pareto = [*COMMANDS["python -m sweeps.stage4"], *arguments], COMMANDS["analysis pareto"]
    seconds_of([*stage4, "--dry-run"], directory)  # compiles what Python compiles once
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
        Figure("verdicts that cohorts and trials alone share", agreement(records, alone), "all"),
        Figure("`analysis pareto --experiment stage4`", f"{statistics.median(frontier):.1f} s", "< 6 s"),
        Figure("largest worker", f"{memory:,.0f} MB", "< 1,500 MB"),
        Figure("battery, share of all trials' seconds", f"{battery_share(records):.1%}", "<= 5 %"),
    ], records


def stock_seconds(directory: Path) -> float:
    """Time the trials of the sweep without cohorts by the stock recipe under Ray Tune, with its evals and its stops."""
    began = time.perf_counter()
    trials, out = directory / "runs" / "alone" / "trials", directory / "stock"
    run_module("benchmarks.stock", "sweep", str(trials), str(out), "--at-once", str(os.cpu_count() or 1))
    return time.perf_counter() - began


def agreement(records: Sequence[Record], others: Sequence[Record]) -> str:
    """Count the trials that ended alike, at the same step, in both sweeps."""
    ends = [{record.name: record.verdict() for record in one} for one in (records, others)]
    same = sum((a := ends[0][name]) is not None and (b := ends[1].get(name)) is not None
               and (a.kind, a.cause, a.step) == (b.kind, b.cause, b.step) for name in ends[0])  # fmt: skip
    return f"{same} of {len(ends[0])}"


def battery_share(records: Sequence[Record]) -> float:
    """Return the seconds that trials spent proving themselves, as a share of all their seconds."""
    proving, working = 0.0, 0.0
    for record in records:
        proof = record.directory / "battery.json"
        proving += read_json(proof).get("seconds", 0.0) if proof.exists() else 0.0
        last = [one.metrics for one in record.measurements() if one.kind == "train"][-1]
        working += last["train_seconds"] + last["eval_seconds"]
    return proving / (proving + working)


def learning_figures(directory: Path, records: Sequence[Record]) -> list[Figure]:
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


def trial_row(record: Record) -> dict[str, Any]:
    """Return one trial's end and its last metrics as plain values."""
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

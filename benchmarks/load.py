"""Measures sweeps of thousands of trials that train nothing: driver, mirror, planning, resume and the readers.

python -m benchmarks.load                                  100, 1,000 and 2,000 trials, and a plan of 10,000
python -m benchmarks.load --trials 100 --planned 1000      a quick look
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import ROOT, machine
from trainables.command import run
from trainables.errors import InfrastructureError, UserError, items
from trainables.io.files import read_json, write_json, write_text

PAGE = Path("docs/load.md")
ARMS = ("A1", "A2", "B1", "B2", "B3", "C1", "C2", "C3", "D1", "D2")
EXPERIMENT = "load"
DONE = (0, 1, 3)  # 1: nothing can be shipped, 3: a trial failed; both are results
Say = Callable[[str], None]


@dataclass(frozen=True)
class CommandCost:
    """What a command cost, from the start of its process to its end."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mb: float


def main(
    trials: Annotated[str, typer.Option(help="Sizes of the sweeps to run, multiples of 10.")] = "100,1000,2000",
    planned: Annotated[str, typer.Option(help="Sizes of the plans, multiples of 10.")] = "100,1000,10000",
    seats: Annotated[
        int | None, typer.Option(help="Trials of an engine with a worker at once.", show_default="as a launch")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Directory for the sweeps, which stay.", show_default="deleted at the end")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output page; figures of other sizes are kept beside it as JSON.")] = PAGE,
) -> None:
    """Measure, and write the page. On two idle cores, 2,000 trials take about ten minutes; they take 2 GB of disk."""
    began = time.perf_counter()
    say = lambda text: typer.echo(f"{time.perf_counter() - began:6.0f} s  {text}")  # noqa: E731
    sizes, plans = _sizes(trials, "--trials"), _sizes(planned, "--planned")
    with tempfile.TemporaryDirectory() as scratch:
        directory = keep or Path(scratch)
        found = {
            "machine": machine("cpu"),
            "plans": {str(size): asdict(measure_plan(size, directory / f"plan-{size}", say)) for size in plans},
            "sweeps": {str(size): measure_sweep(size, directory / str(size), seats, say) for size in sizes},
        }
    typer.echo(write(out, found))


def _sizes(text: str, flag: str) -> list[int]:
    words = items(text, flag, "100,1000")
    if not all(word.isdecimal() and int(word) and int(word) % len(ARMS) == 0 for word in words):
        raise UserError(f"{flag} must be multiples of {len(ARMS)}, the number of arms, but got `{text}`")
    return [int(word) for word in words]


def measure_plan(size: int, directory: Path, say: Say) -> CommandCost:
    """Measure a dry run of `size` trials; one before it has scanned the rows, which are read once."""
    # at rank 1 the adapters of 10,000 trials find space
    study = [sys.executable, "-m", "sweeps.stage4", "--dry-run", "--rank", "1", "--only", ",".join(ARMS)]
    directory.mkdir(parents=True, exist_ok=True)
    cost_of([*study, "--seeds", "1"], directory)
    say(f"a plan of {size:,} trials")
    return cost_of([*study, "--seeds", str(size // len(ARMS))], directory)


def measure_sweep(size: int, directory: Path, seats: int | None, say: Say) -> dict[str, Any]:
    """Run a sweep of `size` trials in its own process, then what reads it; returns their figures."""
    directory.mkdir(parents=True, exist_ok=True)
    say(f"a sweep of {size:,} trials")
    request = directory / "request.json"
    request.write_text(json.dumps({"trials": size, "directory": str(directory), "seats": seats}) + "\n", "utf-8")
    cost_of([sys.executable, "-m", "benchmarks.load_driver"], directory, request)
    found: dict[str, Any] = {"driver": read_json(directory / "driver.json"), "commands": {}}
    for name, command in reading_commands(directory).items():
        say(name)
        found["commands"][name] = asdict(cost_of(command, directory))
    return found


def reading_commands(directory: Path) -> dict[str, list[str]]:
    """Return the commands that read a finished sweep, as users type them, by name."""
    study, analysis = [sys.executable, "-m", "sweeps.stage4"], [sys.executable, "-m", "analysis.cli"]
    where = ["--storage", str(directory / "runs"), "--experiment", EXPERIMENT]
    store = ["--tracking-uri", f"sqlite:///{directory / 'mlflow.db'}"]
    other = ["--tracking-uri", f"sqlite:///{directory / 'copy.db'}"]
    footprint = [str(Path(sys.executable).parent / "footprint")]
    read = ["--experiment", EXPERIMENT, *store]
    return {
        "--resume": [*study, "--resume", *where, *store],
        "analysis pareto": [*analysis, "pareto", *read, "--out", str(directory / "frontier")],
        "analysis seeds": [*analysis, "seeds", *read],
        "analysis report": [*analysis, "report", *read, "--out", str(directory / "report.html")],
        "analysis compare": [*analysis, "compare", "C1", "D2", *read],
        "footprint status": [*footprint, "status", EXPERIMENT, "--storage", str(directory / "runs")],
        "--sync": [*study, "--sync", *where, *store],
        "--sync to an empty store": [*study, "--sync", *where, *other],
    }


def cost_of(command: Sequence[str], directory: Path, request: Path = Path(os.devnull)) -> CommandCost:
    """Run a command in a directory, with a file as its input; its output is in `last-command.txt` there.

    Raises:
        InfrastructureError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "RAY_USAGE_STATS_ENABLED": "0"}
    began, log = time.perf_counter(), directory / "last-command.txt"
    with log.open("w", encoding="utf-8") as output:
        outputs = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)]
        files = [(os.POSIX_SPAWN_OPEN, 0, str(request), os.O_RDONLY, 0), *outputs]
        # the change of directory is the command's own; wait4 alone says what it and its children used
        words = ["/usr/bin/env", "-C", str(directory), *command]
        pid = os.posix_spawn(words[0], words, environment, file_actions=files)
        _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in DONE:
        sys.stderr.write(log.read_text(encoding="utf-8")[-4000:])
        raise InfrastructureError(f"`{' '.join(command)}` ended with {code}", "see above")
    seconds = usage.ru_utime + usage.ru_stime
    return CommandCost(time.perf_counter() - began, seconds, usage.ru_maxrss * 1024 / 1e6)


def write(out: Path, found: dict[str, Any]) -> str:
    """Merge new figures into the JSON next to the page `out`, then rewrite the page; returns it."""
    from benchmarks.load_page import page

    kept = out.with_suffix(".json")
    results = read_json(kept) if kept.exists() else {"plans": {}, "sweeps": {}}
    merged = {**results, "machine": found["machine"]}
    merged |= {key: {**results[key], **found[key]} for key in ("plans", "sweeps")}
    write_json(kept, merged)
    write_text(out, text := page(merged))
    return text


if __name__ == "__main__":
    run(main)

"""Times the start of a sweep, by what its records show while it runs: from the command to the first training step.

python -m benchmarks.start                                       three fresh sweeps of the miniature
python -m benchmarks.start --against DIR --whole                 interleaved with those of another checkout
python -m benchmarks.start --again                               on a storage that knows the baseline, with its caches

Two checkouts are compared on an idle machine. Each has its own `.venv`; records of any version are read.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import InfrastructureError, UserError
from trainables.phase import read_phase
from trainables.record import Record, records_under

POLL_SECONDS = 0.05
MOST_SECONDS = 3600.0
ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = "timed"
PHASES = (
    "plan accepted", "Ray Tune started", "base loading", "baseline known", "first self-test", "self-tests done",
    "first step", "end",
)  # fmt: skip


@dataclass
class Timeline:
    """The seconds since the start of the command at which each phase was first seen."""

    seconds: dict[str, float] = field(default_factory=dict)

    def see(self, phase: str, seconds: float) -> None:
        """Note a phase, unless it was seen before."""
        self.seconds.setdefault(phase, seconds)


def phases_in(experiment: Path) -> Iterator[str]:
    """Yield the phases that the records of an experiment show now."""
    if (experiment / "study.json").exists():
        yield "plan accepted"
    if any((experiment / "ray").glob("launch-*")):
        yield "Ray Tune started"
    records = records_under(experiment / "trials")
    baselines = [record for record in records if record.name.startswith("A0")]
    arms = [record for record in records if record not in baselines]
    if baselines and all((record.directory / "verdict.json").exists() for record in baselines):
        yield "baseline known"
    yield from _phases_of(records, arms)


def _phases_of(records: Sequence[Record], arms: Sequence[Record]) -> Iterator[str]:
    shown = {record.name: read_phase(record.directory) for record in records}
    if any(shown.values()):
        yield "base loading"
    trained = [phase for record in arms if (phase := shown[record.name]) is not None]
    if any(phase.name == "self-test" for phase in trained) or any(
        (record.directory / "battery.json").exists() for record in arms
    ):
        yield "first self-test"
    if any(phase.name in ("training", "eval") for phase in trained):
        yield "self-tests done"
    if any(phase.step > 0 for phase in trained):
        yield "first step"


def timed(
    checkout: Path, directory: Path, arguments: Sequence[str], whole: bool, experiment: str = EXPERIMENT
) -> Timeline:
    """Run `python -m sweeps.stage4` of a checkout in `directory`, and return its timeline; stops it at the first step.

    Raises:
        InfrastructureError: the sweep fails.
    """
    command = [
        str(checkout / ".venv" / "bin" / "python"),
        "-m",
        "sweeps.stage4",
        "--experiment",
        experiment,
        *arguments,
    ]
    environment = {**os.environ, "COLUMNS": "100", "XDG_CACHE_HOME": str(directory / "cache")}
    found, began = Timeline(), time.perf_counter()
    with (directory / f"{experiment}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)  # noqa: S603
        while process.poll() is None and time.perf_counter() - began < MOST_SECONDS:
            now = time.perf_counter() - began
            for phase in phases_in(directory / "runs" / experiment):
                found.see(phase, now)
            if "first step" in found.seconds and not whole:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(POLL_SECONDS)
        code = process.wait()
    if whole:
        found.see("end", time.perf_counter() - began)
    if "first step" not in found.seconds or (whole and code not in (0, 3)):
        tail = (directory / f"{experiment}.log").read_text(errors="replace")[-1000:]
        raise InfrastructureError(f"`{' '.join(command)}` in {directory} ended with {code}: {tail}")
    return found


@contextmanager
def prepared(checkout: Path, arguments: Sequence[str], again: bool) -> Iterator[Path]:
    """Yield a fresh directory; with `again`, one in which the same sweep has run to its end before."""
    directory = Path(tempfile.mkdtemp(prefix="footprint-start-"))
    try:
        if again:
            timed(checkout, directory, arguments, whole=False, experiment="before")
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def table(timelines: Mapping[str, Sequence[Timeline]]) -> str:
    """Return the median seconds of each phase by checkout, and the ratio to the last checkout."""
    medians = {
        name: {
            phase: statistics.median(one.seconds[phase] for one in found)
            for phase in PHASES
            if all(phase in one.seconds for one in found)
        }
        for name, found in timelines.items()
    }
    names = list(medians)
    lines = [" | ".join(["phase", *names, "ratio"])]
    for phase in PHASES:
        values = [medians[name].get(phase) for name in names]
        if any(value is None for value in values):
            continue
        shown = [f"{value:.1f} s" for value in values if value is not None]
        first, last = medians[names[0]][phase], medians[names[-1]][phase]
        lines.append(" | ".join([phase, *shown, f"{first / last:.2f}" if len(names) > 1 else ""]))
    return "\n".join(lines)


def main(
    against: Annotated[Path | None, typer.Option(help="Another checkout, with its .venv, to compare with.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Sweeps of each checkout.")] = 3,
    again: Annotated[bool, typer.Option("--again", help="Time a second sweep on the same storage.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Let sweeps run to their end.")] = False,
    arguments: Annotated[str, typer.Option(help="Options of the sweep, e.g. '--only A1,C1'.")] = "",
    out: Annotated[Path | None, typer.Option(help="File for the timelines as JSON.", show_default="none")] = None,
) -> None:
    """Print when each phase of a sweep's start was first seen, in seconds since the command."""
    checkouts = {"here": ROOT, **({"there": against.resolve()} if against else {})}
    for checkout in checkouts.values():
        if not (checkout / ".venv" / "bin" / "python").exists():
            raise UserError(f"a checkout must have its .venv, but {checkout} has none", "run `make test` there first")
    timelines: dict[str, list[Timeline]] = {name: [] for name in checkouts}
    for number in range(repeats):
        for name, checkout in checkouts.items():  # interleaved: the machine is not the same all the time
            with prepared(checkout, arguments.split(), again) as directory:
                timelines[name].append(timed(checkout, directory, arguments.split(), whole))
            typer.echo(f"{number + 1} {name}: first step after {timelines[name][-1].seconds['first step']:.1f} s")
    typer.echo(table(timelines))
    if out is not None:
        out.write_text(json.dumps({k: [one.seconds for one in v] for k, v in timelines.items()}, indent=2) + "\n")


if __name__ == "__main__":
    run(main)

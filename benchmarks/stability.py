"""Repeats one study with other dropout masks or arithmetic, and compares how its trials end and what it picks.

python -m benchmarks.stability repeat --directory stability      stage4, three seeds, twice; again to continue
python -m benchmarks.stability repeat --repeats masks-1,avx2     as a processor without AVX-512 would compute it
python -m benchmarks.stability compare runs/one runs/other       two repeats that were run elsewhere

Masks are drawn by seed, step, layer and rate, so that a rate that differs by 0.000001 draws others; initialization and
the order of rows stay. With other instructions torch's kernels, and MKL's on Intel, add in another order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import InfrastructureError, UserError, items, quoted
from trainables.io.files import write_text
from trainables.record import records_under
from trainables.verdict import Verdict

Trials = Mapping[str, Verdict]


@dataclass(frozen=True)
class How:
    """How a repeat differs: further options of the study, and variables of the environment."""

    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
REPEATS: Mapping[str, How] = {
    "masks-1": How(), "masks-2": How(("--set", "dropout=0.100001")), "avx2": How(environment=AVX2),
}  # fmt: skip
MASKS = "masks-1,masks-2"
TABLE = "stability.md"
ENDED = (0, 3)  # all trials have a result, or some failed
PICKED = (0, 1)  # a candidate, or none that can be shipped
MOST_CHANGED = 3  # of 33 verdicts


@dataclass(frozen=True)
class Repeat:
    """One repeat: its name, the verdicts of its trials, and what it concludes about what to ship."""

    name: str
    verdicts: Trials
    conclusion: str


@dataclass(frozen=True)
class Change:
    """A trial that ends otherwise in the second repeat."""

    trial: str
    first: Verdict
    second: Verdict

    def __str__(self) -> str:
        return f"{self.trial}: {self.first} @ {self.first.step} -> {self.second} @ {self.second.step}"


def changes(first: Trials, second: Trials) -> list[Change]:
    """Return the trials of both repeats whose kind of verdict differs, by name."""
    shared = sorted(first.keys() & second.keys())
    return [Change(one, first[one], second[one]) for one in shared if first[one].kind != second[one].kind]


def verdicts_in(directory: Path) -> Trials:
    """Read the verdicts of the trained trials of an experiment, by trial name.

    Raises:
        UserError: it has no trial that ended.
    """
    found = {}
    for record in records_under(directory / "trials"):
        spec, verdict = record.spec(), record.verdict()
        if verdict is not None and not spec.placement.is_baseline:
            found[spec.name] = verdict
    if not found:
        raise UserError(f"an experiment must have trials that ended, but {directory} has none", "run it first")
    return found


def summary(first: Trials, second: Trials) -> str:
    """Return how many verdicts changed, and how many trials each repeat pruned."""
    pruned = [sum(verdict.kind == "pruned" for verdict in trials.values()) for trials in (first, second)]
    return (
        f"{len(changes(first, second))} of {len(first.keys() & second.keys())} verdicts changed "
        f"(at most {MOST_CHANGED} of 33 may); pruned: {pruned[0]} and {pruned[1]}"
    )


def table(first: Repeat, second: Repeat) -> str:
    """Return how each trial ends in both repeats, and what both conclude, as Markdown."""
    changed = {one.trial for one in changes(first.verdicts, second.verdicts)}
    lines = [f"| trial | {first.name} | {second.name} | changed |", "| --- | --- | --- | --- |"]
    for name in sorted(first.verdicts.keys() | second.verdicts.keys()):
        ends = [_shown(one.verdicts.get(name)) for one in (first, second)]
        lines.append(f"| {name} | {ends[0]} | {ends[1]} | {'yes' if name in changed else ''} |")
    picks = [f"- {one.name}: {one.conclusion}" for one in (first, second)]
    return "\n".join([*lines, "", summary(first.verdicts, second.verdicts), "", *picks, ""])


def _shown(verdict: Verdict | None) -> str:
    return "-" if verdict is None else f"{verdict} @ {verdict.step}"


# -------------------------------------------------------------------- running
def launch(directory: Path, name: str, seeds: int, more: Sequence[str]) -> Path:
    """Run a repeat, or what is left of it, and return its directory.

    Raises:
        InfrastructureError: the launch did not end.
    """
    command = [
        *(sys.executable, "-m", "sweeps.stage4", "--seeds", str(seeds), "--experiment", name),
        *("--storage", str(directory / "runs"), "--tracking-uri", _store(directory), *REPEATS[name].options, *more),
    ]
    environment = {**os.environ, **REPEATS[name].environment}
    code = subprocess.run(command, check=False, env=environment).returncode  # noqa: S603
    if code not in ENDED:
        raise InfrastructureError(f"`{' '.join(command[1:])}` ended with {code}", "the same command continues it")
    return directory / "runs" / name


def concluded(directory: Path, name: str) -> str:
    """Return what `analysis pareto` concludes about a repeat.

    Raises:
        InfrastructureError: it could not read the repeat.
    """
    options = ("--tracking-uri", _store(directory), "--out", str(directory / "frontier" / name), "--format", "json")
    command = [sys.executable, "-m", "analysis.cli", "pareto", "--experiment", name, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode not in PICKED:
        raise InfrastructureError(f"`{' '.join(command[1:])}` ended with {done.returncode}: {done.stderr.strip()}")
    return " ".join(json.loads(done.stdout)["conclusion"])


def _store(directory: Path) -> str:
    return f"sqlite:///{directory / 'mlflow.db'}"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command("repeat")
def repeat(
    directory: Annotated[Path, typer.Option(help="Where records, MLflow and the table go.")] = Path("stability"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per arm.")] = 3,
    repeats: Annotated[str, typer.Option(help=f"Two of {', '.join(REPEATS)}.")] = MASKS,
    more: Annotated[list[str] | None, typer.Argument(help="Further options of sweeps.stage4, after `--`.")] = None,
) -> None:
    """Run the study twice, and write the table; finished trials are not run again.

    Exit code 2 when --repeats does not name two.
    """
    names = items(repeats, "--repeats", MASKS)
    if len(set(names)) != 2 or not REPEATS.keys() >= set(names):
        raise UserError(
            f"--repeats must be two of {', '.join(REPEATS)}, but got {quoted(repeats)}", f"--repeats {MASKS}"
        )
    home = directory.resolve()
    os.makedirs(home, exist_ok=True)
    places = {name: launch(home, name, seeds, more or ()) for name in names}
    first, second = (Repeat(name, verdicts_in(place), concluded(home, name)) for name, place in places.items())
    write_text(home / TABLE, table(first, second))
    typer.echo(f"{summary(first.verdicts, second.verdicts)}\n{home / TABLE}")


@app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(help="Directory of the first experiment, such as runs/masks-1.")],
    second: Annotated[Path, typer.Argument(help="Directory of its repeat.")],
) -> None:
    """Print the trials that end otherwise, and how many of how many these are."""
    one, other = verdicts_in(first), verdicts_in(second)
    for change in changes(one, other):
        typer.echo(change)
    typer.echo(summary(one, other))


if __name__ == "__main__":
    run(app)

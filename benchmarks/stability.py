"""Compares the verdicts of two repeats of one study: how many trials end otherwise.

python -m sweeps.stage4 --seeds 3 --experiment masks-1
python -m sweeps.stage4 --seeds 3 --experiment masks-2 --set dropout=0.100001     the same rate, other dropout masks
python -m benchmarks.stability runs/masks-1 runs/masks-2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import UserError
from trainables.record import Verdict, records_under

Trials = Mapping[str, Verdict]


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


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    first: Annotated[Path, typer.Argument(help="Directory of the first experiment, such as runs/masks-1.")],
    second: Annotated[Path, typer.Argument(help="Directory of its repeat.")],
) -> None:
    """Print the trials that end otherwise, and how many of how many these are."""
    one, other = verdicts_in(first), verdicts_in(second)
    found = changes(one, other)
    for change in found:
        typer.echo(change)
    pruned = [sum(verdict.kind == "pruned" for verdict in trials.values()) for trials in (one, other)]
    typer.echo(
        f"{len(found)} of {len(one.keys() & other.keys())} verdicts changed; pruned: {pruned[0]} and {pruned[1]}"
    )


if __name__ == "__main__":
    run(app)

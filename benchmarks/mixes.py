"""`python -m benchmarks.mixes`: cohorts of unlike depths against their trials alone, on one base, interleaved.

A cohort must never be slower than its trials alone. The mixes are the two that were, and random ones by a seed. Each
trial takes whole training steps, by the cut that its cohort chose. It writes `docs/mixes.md` and its JSON.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run
from trainables.errors import UserError

if TYPE_CHECKING:
    from benchmarks.mix_measure import Mix

PAGE = Path("docs/mixes.md")


class Clock(StrEnum):
    """What a step is timed by: on a busy machine only processor time says anything."""

    WALL = "wall"
    CPU = "cpu"

    def seconds(self) -> float:
        """Return the seconds of the clock."""
        return time.perf_counter() if self is Clock.WALL else time.process_time()


def main(
    shapes: Annotated[str, typer.Option(help="Shapes to measure: mini, deep, base.")] = "mini,deep",
    base: Annotated[Path | None, typer.Option(help="Directory of a text-only base, measured as shape `base`.")] = None,
    clock: Annotated[Clock, typer.Option(help="wall on an idle machine, cpu on a busy one.")] = Clock.WALL,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved runs of each way, of 3 timed steps.")] = 3,
    random: Annotated[int, typer.Option(min=0, help="Random mixes (seed 0) beside the named ones.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    out: Annotated[Path, typer.Option(help="Page; its figures are kept as JSON beside it.")] = PAGE,
) -> None:
    """Measure, print a line for each mix, and write the page; figures of shapes that are not measured are kept.

    Takes about 40 minutes for the two shapes on two idle cores. Exit code 2 when an option cannot be used.
    """
    from benchmarks.measure import machine
    from benchmarks.mix_measure import Effort, measure_mixes
    from benchmarks.mix_page import page
    from trainables.io.files import read_json, write_json, write_text

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    names = _names(shapes, base)
    kept = out.with_suffix(".json")
    results: dict[str, Any] = read_json(kept) if kept.exists() else {}
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            effort = Effort(repeats, clock.seconds, threads, typer.echo)
            mixes = _mixes(name, random, base)
            figures = measure_mixes(name, Path(scratch), mixes, effort, base)
        results[name] = {
            "machine": {**machine("cpu"), "threads": threads},
            "clock": clock.value,
            "mixes": [asdict(one) for one in figures],
        }
        write_json(kept, results)
        write_text(out, page(results))
    typer.echo(page(results))


def _names(shapes: str, base: Path | None) -> list[str]:
    names = [one.strip() for one in shapes.split(",") if one.strip()]
    unknown = [one for one in names if one not in ("mini", "deep", "base")]
    if unknown:
        raise UserError(f"a shape must be mini, deep or base, but got `{unknown[0]}`", "e.g. --shapes mini,deep")
    if "base" in names and base is None:
        raise UserError("shape `base` needs the directory of a text-only base, but got none", "add --base DIR")
    return names


def _mixes(shape: str, random: int, base: Path | None) -> list[Mix]:
    from benchmarks.mix_measure import depths_of, named_mixes, random_mixes

    layers, blocks = depths_of(shape, base)
    return [*named_mixes(layers, blocks), *random_mixes(layers, blocks, random)]


if __name__ == "__main__":
    run(main)

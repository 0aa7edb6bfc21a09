"""`python -m benchmarks.mixes`: cohorts of unlike depths against their trials alone, on one base, interleaved.

A cohort must never be slower than its trials alone. The mixes are the two that were, and random ones by a seed. Each
trial takes whole training steps, by the cut that its cohort chose. It writes `docs/mixes.json` and a table.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run
from trainables.errors import UserError

if TYPE_CHECKING:
    from benchmarks.mix_measure import Mix

PAGE = Path("docs/mixes.md")
NOISE, OF_MODEL, NAMED = 0.03, 0.85, 1.2  # never slower than alone, share of the model's ratio, ratio of named mixes


class Clock(StrEnum):
    """What a step is timed by: on a busy machine only processor time says anything."""

    WALL = "wall"
    CPU = "cpu"

    def seconds(self) -> float:
        """Return the seconds of the clock."""
        return time.perf_counter() if self is Clock.WALL else time.process_time()


@dataclass(frozen=True)
class Figure:
    """The median seconds of a step of all members of a mix, alone and in a cohort, and the ratio of the FLOP model."""

    shape: str
    mix: str
    named: bool
    cut: str
    alone_seconds: list[float]
    cohort_seconds: list[float]
    ratio: float
    model_ratio: float

    @property
    def never_slower(self) -> bool:
        """Return whether the cohort is not slower than its trials alone, within noise."""
        return self.ratio >= 1.0 - NOISE

    @property
    def fails(self) -> list[str]:
        """Return the goals that are not met, in words."""
        missed = [] if self.never_slower else ["slower than alone"]
        missed += [] if self.ratio >= OF_MODEL * self.model_ratio else [f"below {OF_MODEL:.0%} of the model"]
        return missed + ([] if self.ratio >= NAMED or not self.named else [f"below {NAMED:g}"])


def main(
    shapes: Annotated[str, typer.Option(help="Shapes to measure: mini, deep, base.")] = "mini,deep",
    base: Annotated[
        Path | None, typer.Option(help="Directory of a text-only base, measured as shape `base`.", exists=True)
    ] = None,
    clock: Annotated[Clock, typer.Option(help="wall on an idle machine, cpu on a busy one.")] = Clock.WALL,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved runs of each way.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of a run.")] = 3,
    random: Annotated[int, typer.Option(min=0, help="Random mixes beside the named ones.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the random mixes.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    out: Annotated[Path, typer.Option(help="Page; its figures are kept as JSON beside it.")] = PAGE,
) -> None:
    """Measure, print a line for each mix, and write the page; figures of shapes that are not measured are kept.

    Takes about 40 minutes for the two shapes on two idle cores. Exit code 2 when an option cannot be used.
    """
    from benchmarks.measure import machine
    from benchmarks.mix_measure import Effort, measure_mixes
    from trainables.io.files import read_json, write_json, write_text

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    names = _names(shapes, base)
    kept = out.with_suffix(".json")
    results: dict[str, Any] = read_json(kept) if kept.exists() else {}
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            effort = Effort(repeats, steps, clock.seconds, threads, lambda text: typer.echo(text))
            mixes = _mixes(name, random, seed, base)
            figures = measure_mixes(name, Path(scratch), mixes, effort, base)
        results[name] = {
            "machine": {**machine("cpu"), "threads": threads},
            "clock": clock.value,
            "seed": seed,
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


def _mixes(shape: str, random: int, seed: int, base: Path | None) -> list[Mix]:
    from benchmarks.mix_measure import depths_of, named_mixes, random_mixes

    layers, blocks = depths_of(shape, base)
    return [*named_mixes(layers, blocks), *random_mixes(layers, blocks, random, seed)]


def page(results: dict[str, Any]) -> str:
    """Return the page: for each shape its machine, a table of mixes and how many meet the goals."""
    lines = ["# Cohorts of unlike depths", "", "`python -m benchmarks.mixes`. A name says which last layers its trials adapt: `L2` two language layers, `V6` six",
             "vision blocks, `L2V6` both. **over alone**: the seconds of a step of all trials alone, over those in a cohort, by the",
             f"cut that its calibration chose. **model**: the same ratio of FLOPs for this cut. Goals: never slower than alone ({NOISE:.0%}),",
             f"at least {OF_MODEL:.0%} of the model, and {NAMED:g} for the mixes L2 + L4 + all and V2 + V6 + L2V6.", ""]  # fmt: skip  # noqa: E501
    for name, shape in results.items():
        figures = [Figure(**one) for one in shape["mixes"]]
        what = shape["machine"]
        met = sum(not one.fails for one in figures)
        lines += [f"## {name}", "", f"{what['date']}, {what['cpu']}, {what['threads']} threads, {shape['clock']} seconds.",
                  f"{met} of {len(figures)} mixes meet all goals; {sum(one.never_slower for one in figures)} are never slower.", "",
                  "| mix | passes | alone s | cohort s | over alone | model | of model | misses |",
                  "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        lines += [_row(one) for one in figures] + [""]
    return "\n".join(lines)


def _row(one: Figure) -> str:
    cells = [
        one.mix, one.cut, f"{min(one.alone_seconds):.3f}", f"{min(one.cohort_seconds):.3f}", f"{one.ratio:.2f}",
        f"{one.model_ratio:.2f}", f"{one.ratio / one.model_ratio:.0%}", ", ".join(one.fails) or "-",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def say_figure(one: Figure, say: Callable[[str], None]) -> None:
    """Print one mix as one line."""
    misses = f"  MISSES: {', '.join(one.fails)}" if one.fails else ""
    say(f"{one.shape} {one.mix}: {one.ratio:.2f} over alone, model {one.model_ratio:.2f}, passes {one.cut}{misses}")


def named(mixes: Sequence[Mix]) -> list[str]:
    """Return the names of the mixes that must reach a ratio."""
    return [one.name for one in mixes if one.named]


if __name__ == "__main__":
    run(main)

"""`make bench`: measures what sharing a base saves and how long the stage4 sweep takes; writes `docs/benchmark.md`."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.families import NAMES
from trainables.command import run
from trainables.errors import UserError, items, nearest

PAGE = Path("docs/benchmark.md")


class Choice(StrEnum):
    """The shapes by name; `all-cpu` is every shape that needs no GPU."""

    MINI = "mini"
    DEEP = "deep"
    FOUR_B = "4b"
    ALL_CPU = "all-cpu"


def main(
    shape: Annotated[Choice, typer.Option(help="Model size to measure; mini includes the sweep.")] = Choice.ALL_CPU,
    families: Annotated[
        str, typer.Option(help="Only these families, e.g. full,A1x24; figures of the others are kept.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Smoke test with few steps; its figures mean nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output page; its figures are kept as JSON in the same directory.",
            show_default="docs/benchmark.md; none when quick",
        ),
    ] = None,
) -> None:
    """Measure, and write the page; figures of shapes that are not measured are kept.

    Takes about 25 minutes on two idle cores. Exit code 2 when a shape needs a device that this machine lacks.
    """
    from benchmarks.measure import Effort, measure_shape
    from benchmarks.shapes import SHAPES
    from benchmarks.stage4 import measure_sweep

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    say = lambda text: typer.echo(f"{time.perf_counter() - began:6.0f} s  {text}")  # noqa: E731
    chosen = list(items(families, "--families", "full,A1x24"))
    names = ("mini", "deep") if shape is Choice.ALL_CPU else (shape.value,)
    found: dict[str, Any] = {}
    _check(chosen)
    for name in names:
        found[name] = measure_shape(SHAPES[name], Effort.of(SHAPES[name], quick, chosen), say)
    sweep = None
    if "mini" in names and not chosen:
        with tempfile.TemporaryDirectory() as scratch:
            sweep = measure_sweep(Path(scratch), quick, say)
    with tempfile.TemporaryDirectory() as scratch:
        typer.echo(write(out or (Path(scratch) / PAGE.name if quick else PAGE), found, sweep))


def _check(families: list[str]) -> None:
    for name in families:
        if name not in NAMES:
            raise UserError(f"a family must be one of {', '.join(NAMES)}, but got `{name}`", nearest(name, NAMES))


def write(out: Path, shapes: dict[str, Any], sweep: dict[str, Any] | None) -> str:
    """Merge new figures into the JSON next to the page `out`, then rewrite the page and its plot; returns the page."""
    from benchmarks.page import page
    from benchmarks.picture import draw
    from trainables.io.files import read_json, write_json, write_text

    kept = out.with_suffix(".json")
    results = read_json(kept) if kept.exists() else {"shapes": {}}
    for name, shape in shapes.items():
        before = results["shapes"].get(name, {}).get("families", {})
        results["shapes"][name] = shape | {"families": before | shape["families"]}
    if sweep is not None:
        results["sweep"] = sweep
    write_json(kept, results)
    draw(results["shapes"], out.parent / "images" / "benchmark.png")
    write_text(out, text := page(results))
    return text


if __name__ == "__main__":
    run(main)

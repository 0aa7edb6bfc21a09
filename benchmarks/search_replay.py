"""Compares samplers with random search by replaying searches over a table of recorded trials, at equal budget.

python -m benchmarks.search_replay record    runs every trial of the table (about 25 minutes on two idle cores)
python -m benchmarks.search_replay           replays every sampler over it and writes docs/search.md
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.search_measure import SEEDS, Table, compare
from benchmarks.search_table import record
from trainables.command import run
from trainables.io.files import read_json, write_json

PAGE = Path("docs/search.md")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=2, help="Number of searches of each sampler.")] = SEEDS,
    gp_seeds: Annotated[int, typer.Option(min=2, help="The same of GP, which takes a second per trial.")] = 30,
    out: Annotated[
        Path, typer.Option(help="Output page; its table and figures are kept as JSON in the same directory.")
    ] = PAGE,
) -> None:
    """Replay every sampler over the recorded trials, and write the page."""
    if context.invoked_subcommand:
        return
    from benchmarks.search_page import draw, page

    kept = read_json(out.with_suffix(".json"))
    table = Table.of(kept["trials"])
    kept["shares"] = compare(table, seeds, gp_seeds, typer.echo)
    write_json(out.with_suffix(".json"), kept)
    draw(kept["shares"], out.parent / "images" / "search.png")
    out.write_text(page(kept, table), encoding="utf-8")


@app.command("record")
def record_table(
    out: Annotated[Path, typer.Option(help="Page; the table is written as JSON in the same directory.")] = PAGE,
    storage: Annotated[
        Path | None, typer.Option(help="Keep the records here, so that a stopped run can be continued.")
    ] = None,
) -> None:
    """Run every trial of the table, and keep its verdict and evals."""
    from rich.console import Console

    from benchmarks.measure import machine

    with tempfile.TemporaryDirectory() as scratch:
        rows = record(storage or Path(scratch), Console())
    write_json(out.with_suffix(".json"), {"machine": machine("cpu"), "trials": rows})


if __name__ == "__main__":
    run(app)

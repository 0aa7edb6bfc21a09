"""Does a sampler find more than luck? Searches replayed over a table of recorded trials, at equal budget.

python -m benchmarks.search_replay record    runs every trial of the table for real (some 25 minutes, two idle cores)
python -m benchmarks.search_replay           replays every sampler over it and writes docs/search.md
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.search_measure import SEEDS, Table, compare
from benchmarks.search_table import record
from trainables.io.files import read_json, write_json

PAGE = Path("docs/search.md")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each sampler.")] = SEEDS,
    gp_seeds: Annotated[int, typer.Option(min=2, help="Searches of GP, which takes a second a trial.")] = 30,
    out: Annotated[Path, typer.Option(help="The page; its table and figures stay beside it as JSON.")] = PAGE,
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
    out: Annotated[Path, typer.Option(help="The page beside which the table is kept.")] = PAGE,
    storage: Annotated[Path | None, typer.Option(help="Keep the records here, to go on after a stop.")] = None,
) -> None:
    """Run every trial of the table for real, and keep what it left."""
    from rich.console import Console

    from benchmarks.measure import machine

    with tempfile.TemporaryDirectory() as scratch:
        rows = record(storage or Path(scratch), Console())
    write_json(out.with_suffix(".json"), {"machine": machine("cpu"), "trials": rows})


if __name__ == "__main__":
    app()

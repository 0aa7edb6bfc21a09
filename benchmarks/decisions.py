"""Simulates sweeps whose truth is known, and writes how far the conclusions from them can be trusted.

python -m benchmarks.decisions           writes docs/statistics.md (about three minutes on one core)
python -m benchmarks.decisions --sweeps 20 --out try.md     a rough look in half a minute
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run

PAGE = Path("docs/statistics.md")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    sweeps: Annotated[int, typer.Option(min=2, help="Simulated sweeps for each number of seeds.")] = 300,
    out: Annotated[Path, typer.Option(help="Output page.")] = PAGE,
) -> None:
    """Simulate, and write the page."""
    from benchmarks.decision_measure import measure
    from benchmarks.decision_page import page
    from benchmarks.measure import machine
    from benchmarks.pareto_scale import time_frontiers
    from trainables.errors import UserError

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as error:
        raise UserError(f"--out must be a file that can be written, but: {error}", "name another one") from error
    scale = time_frontiers()
    text = page(measure(sweeps, typer.echo), scale, machine("cpu")["cpu"], date.today())
    out.write_text(text, encoding="utf-8")
    typer.echo(f"written: {out}")


if __name__ == "__main__":
    run(app)

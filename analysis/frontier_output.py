"""Writes the files of a frontier, and prints it on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainables.errors import UserError

if TYPE_CHECKING:
    from analysis.charts.chart import Chart
    from analysis.frontier import FrontierInfo

COLUMNS_WITHOUT_TERMINAL = 120

Format = Literal["table", "json", "csv", "markdown"]


def write_files(info: FrontierInfo, directory: Path, chart: Chart) -> list[Path]:
    """Write page, picture, table and, for a study, its winners; return their paths.

    Raises:
        UserError: the directory cannot be written.
    """
    from analysis.charts.html import write_page
    from analysis.charts.png import write_png
    from analysis.report.tables import as_csv
    from analysis.report.winners_json import as_winners_json

    page, picture, table = (directory / name for name in ("pareto.html", "pareto.png", "pareto.csv"))
    winners = () if info.is_foreign else (directory / "winners.json",)  # a next study needs placements
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_page(info, page, chart)
        write_png(chart, picture)
        table.write_text(as_csv(info), encoding="utf-8")
        for path in winners:
            path.write_text(as_winners_json(info), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out must be a directory that can be written, but: {error}", "name another one") from error
    return [page, picture, table, *winners]


def print_frontier(info: FrontierInfo, form: Format, files: Sequence[Path]) -> None:
    """Print the report in a format on stdout; the paths of the files go there too only with the table."""
    from analysis.report import tables

    written = "written: " + ", ".join(str(path) for path in files)
    if form == "table":
        from rich.console import Console

        tables.print_report(info, Console(width=None if sys.stdout.isatty() else COLUMNS_WITHOUT_TERMINAL))
        print(written)
    else:
        print(written, file=sys.stderr)
        write = {"json": tables.as_json, "csv": tables.as_csv, "markdown": tables.as_markdown}[form]
        sys.stdout.write(write(info))

"""The command `analysis report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from analysis.open_page import OpenPage, open_page
from analysis.options import DEFAULT_LEVEL, STORE, ConclusionOptions, Fit, Generality, Level, TrackingUri
from trainables.errors import ExitCode
from trainables.progress import working

ReportFormat = Literal["html", "markdown"]


def report(  # noqa: PLR0913, PLR0917 one function is the whole command line
    experiment: Annotated[str, typer.Option(help="MLflow experiment: the study's name, for example stage4.")],
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="report.html or report.md")] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="Format of the report.")] = "html",
    x: Generality = "",
    y: Fit = "",
    level: Level = DEFAULT_LEVEL,
    tracking_uri: TrackingUri = STORE,
    is_opened: OpenPage = False,
) -> None:
    """Write one page on a study: what to ship and how sure, and the evidence; it opens without a network.

    Exits with 1 if results by row show that no candidate can be shipped; the page then says what comes nearest.
    """
    from datetime import UTC, datetime

    from rich.console import Console

    from analysis.read_conclusion import read_conclusion
    from analysis.report.next_commands import next_commands
    from analysis.study_report.content import content_of
    from analysis.study_report.page import write_report

    asked = ConclusionOptions(experiment, tracking_uri, x, y, level=level)
    with working(Console(stderr=True), f"reading {experiment}, and drawing again from its rows and seeds"):
        found = read_conclusion(asked)
    commands = next_commands(found, asked)
    path = out or Path("report.html" if form == "html" else "report.md")
    with working(Console(stderr=True), f"writing {path}"):
        content = content_of(found, commands, datetime.now(UTC).date(), asked.store_words())
        write_report(content, path, form)
    print(content.answer[0])
    print(f"written: {path}")
    if is_opened:
        open_page(path)
    if commands:
        print("next:", *(f"    {one}" for one in commands), sep="\n")
    if found.info.choice is not None and found.info.choice.picked is None:
        raise typer.Exit(ExitCode.CHECK_FAILED)

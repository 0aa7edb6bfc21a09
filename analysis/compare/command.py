"""The command `analysis compare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainables.errors import UserError, quoted
from trainables.progress import working

if TYPE_CHECKING:
    from analysis.compare.answers import SideBySide
    from analysis.compare.comparison import CandidateComparison
    from analysis.compare.selection import Candidates

Form = Literal["table", "json", "markdown"]
WIDTH_WITHOUT_TERMINAL = 80
MARGIN = 0.05


def compare(  # noqa: PLR0913, PLR0917 one function is the whole command line
    a: Annotated[str, typer.Argument(help="An arm (C2), an arm at a step ('C2 @ 60'), or a trial.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    experiment: Annotated[str, typer.Option(help="MLflow experiment of A and B.")],
    with_experiment: Annotated[str, typer.Option(help="Experiment of B.", show_default="that of A")] = "",
    y: Annotated[str, typer.Option(help="Task fit, which comes first.")] = "exact_match",
    margin: Annotated[float, typer.Option(help="Largest difference that counts as none.")] = MARGIN,
    answers: Annotated[int, typer.Option(min=0, help="How many answers to show side by side.")] = 8,
    form: Annotated[Form, typer.Option("--format", help="Format of the comparison.")] = "table",
    tracking_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store.")] = (
        "sqlite:///mlflow.db"
    ),
) -> None:
    """Compare two arms, checkpoints or trials on the rows that both answered, and their answers side by side."""
    from rich.console import Console

    from trainables.metrics import metric

    check_margin(margin)
    metric(y)
    with working(Console(stderr=True), f"reading {experiment}, and comparing"):
        ours = _candidates(experiment, tracking_uri)
        theirs = _candidates(with_experiment, tracking_uri) if with_experiment else ours
        compared = _compared(a, b, ours, theirs, y, margin, answers)
    _print(*compared, form)


def check_margin(margin: float) -> None:
    """Refuse a margin that is no share of the rows.

    Raises:
        UserError: it is not between 0 and 1.
    """
    if not 0 < margin < 1:
        raise UserError(f"--margin must be above 0 and below 1, but got {quoted(margin)}", "--margin 0.05 is 5 points")


def _candidates(experiment: str, tracking_uri: str) -> Candidates:
    from analysis.compare.selection import candidates_in
    from analysis.logged_measurements import read_logged
    from analysis.objectives import frontier_objectives, generality_in
    from analysis.options import store_words
    from analysis.placements import placements_of

    logged = read_logged(experiment, tracking_uri)
    objectives = frontier_objectives(generality_in(logged.runs.trials), "exact_match", ())
    return candidates_in(logged.runs, placements_of(logged.runs, objectives), logged.trained, store_words(tracking_uri))


def _compared(
    a: str, b: str, ours: Candidates, theirs: Candidates, fit: str, margin: float, most: int
) -> tuple[CandidateComparison, SideBySide]:
    from analysis.compare.answers import asked_rows, files_of, groups_in, side_by_side
    from analysis.compare.comparison import compare as comparison_of
    from analysis.compare.selection import check_same_files, side_of

    side_a, side_b = side_of(a, ours), side_of(b, theirs)
    check_same_files(files_of(side_a), files_of(side_b), (side_a.candidate.name, side_b.candidate.name))
    pool = ours.candidates if theirs is ours else (*ours.candidates, *theirs.candidates)
    asked = asked_rows(side_a)
    found = comparison_of(side_a, side_b, pool, fit, groups_in(asked), margin)
    shown = [one.metric.name for one in found.metrics if one.metric.unit == "fraction"]
    return found, side_by_side(side_a, side_b, shown, asked, most)


def _print(found: CandidateComparison, answers: SideBySide, form: Form) -> None:
    from analysis.compare.tables import as_json, as_markdown, print_comparison

    if form == "table":
        from rich.console import Console

        print_comparison(found, answers, Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL))
    else:
        sys.stdout.write((as_json if form == "json" else as_markdown)(found, answers))

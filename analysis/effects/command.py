"""The command `analysis effects`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainables.progress import working

if TYPE_CHECKING:
    from analysis.effects.continuations import ContinuedPair
    from analysis.effects.report import EffectsReport

Form = Literal["table", "json", "markdown"]
WIDTH_WITHOUT_TERMINAL = 80
MARGIN = 0.05


def effects(
    experiment: Annotated[str, typer.Option(help="MLflow experiment whose trials vary layers, rank or rate.")],
    continuations: Annotated[
        list[str] | None,
        typer.Option(help="Experiment of `footprint continuation`; repeatable.", show_default="none"),
    ] = None,
    y: Annotated[str, typer.Option(help="Task fit.")] = "exact_match",
    margin: Annotated[float, typer.Option(help="Largest effect that counts as none.")] = MARGIN,
    form: Annotated[Form, typer.Option("--format", help="Format of the report.")] = "table",
    tracking_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store.")] = (
        "sqlite:///mlflow.db"
    ),
) -> None:
    """Estimate what layers, rank and rate do to fit and generality, and judge four hypotheses about them.

    H1 more LoRA costs generality; H2 each tower has a best depth in between; H3 placement matters more than a modest
    change of the rate; H4 training on harms an adapter that lost its generality.
    """
    from rich.console import Console

    from analysis.compare.command import check_margin
    from trainables.metrics import metric

    check_margin(margin)
    metric(y)
    with working(Console(stderr=True), f"reading {experiment}, and estimating effects"):
        report = _report(experiment, tracking_uri, continuations or (), y, margin)
    _print(report, form)


def _report(experiment: str, tracking_uri: str, continuations: Sequence[str], y: str, margin: float) -> EffectsReport:
    from analysis.effects.design import observations
    from analysis.effects.report import effects_report
    from analysis.logged_measurements import read_logged
    from analysis.options import store_words

    logged = read_logged(experiment, tracking_uri)
    study = logged.runs
    pairs = [pair for name in continuations for pair in _pairs(name, tracking_uri)]
    among = observations(study, logged.trained)
    baseline = next((one.last for one in study.trials if one.trial_id in study.baseline_ids), None)
    return effects_report(experiment, among, pairs, y, margin, baseline, store_words(tracking_uri))


def _print(report: EffectsReport, form: Form) -> None:
    from analysis.effects import tables

    if form == "table":
        from rich.console import Console

        tables.print_report(report, Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL))
    else:
        sys.stdout.write((tables.as_json if form == "json" else tables.as_markdown)(report))


def _pairs(name: str, tracking_uri: str) -> tuple[ContinuedPair, ...]:
    from analysis.effects.continuations import continued_pairs
    from analysis.effects.hypotheses import continuation_command
    from analysis.logged_measurements import read_logged
    from trainables.errors import UserError

    logged = read_logged(name, tracking_uri)
    found = continued_pairs(logged.runs, logged.trained)
    if not found:
        raise UserError(
            f"--continuations must hold two trials that differ in their parent alone, one within the constraint at its "
            f"first eval and one outside, but `{name}` has none",
            continuation_command(),
        )
    return found

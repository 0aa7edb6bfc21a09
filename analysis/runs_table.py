"""The command `analysis runs`: the runs of a study in MLflow, one a line."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from analysis.options import TrackingUri
from trainables.progress import working

if TYPE_CHECKING:
    from analysis.mlflow_runs import ExperimentRuns, TrialRun
    from trainables.pareto import Objective

Form = Literal["table", "json", "csv"]
WIDTH_WITHOUT_TERMINAL = 80


@dataclass(frozen=True)
class RunLine:
    """What the table says of one run: how it ended, and fit and generality at its best and its last eval.

    A value that was not measured is None; `best_step` too where no eval met the constraint.
    """

    trial: str
    where: str
    seed: str
    status: str
    best_step: int | None
    best_fit: float | None
    best_generality: float | None
    last_fit: float | None
    last_generality: float | None
    criteria: str
    run_id: str


def run_lines(study: ExperimentRuns, fit: Objective, generality: Objective) -> list[RunLine]:
    """Return a line for each run, the trials of a placement together."""
    from analysis.placements import placements_of

    return [
        _line(seed_run.trial, placement.where, (fit.name, generality.name))
        for placement in placements_of(study, (generality, fit))
        for seed_run in placement.seed_runs
    ]


def _line(trial: TrialRun, where: str, names: tuple[str, str]) -> RunLine:
    best, last = ([_known(row.get(name)) for name in names] for row in (trial.best, trial.last))
    return RunLine(
        trial=trial.name,
        where=where,
        seed=str(trial.parameters.get("seed", "")),
        status=trial.verdict or trial.run_status.lower(),
        best_step=int(trial.best_step) if trial.best_step else None,
        best_fit=best[0],
        best_generality=best[1],
        last_fit=last[0],
        last_generality=last[1],
        criteria=trial.criteria or "",
        run_id=trial.run_id,
    )


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def runs(
    experiment: Annotated[str, typer.Option(help="MLflow experiment: the study's name, for example stage4.")],
    form: Annotated[Form, typer.Option("--format", help="Format of the list.")] = "table",
    tracking_uri: TrackingUri = "sqlite:///mlflow.db",
) -> None:
    """List the runs of a study as MLflow has them: how each ended, and its fit and generality."""
    from rich.console import Console

    with working(Console(stderr=True), f"reading {experiment}"):
        from analysis.mlflow_runs import read_experiment
        from analysis.objectives import fit_in, frontier_objectives, generality_in

        study = read_experiment(experiment, tracking_uri)
        generality, fit = frontier_objectives(generality_in(study.trials), fit_in(study.trials), ())
        lines = run_lines(study, fit, generality)
    if form == "table":
        _print(lines, study, fit, generality)
    else:
        sys.stdout.write((_as_json if form == "json" else _as_csv)(lines, fit, generality))


def _print(lines: Sequence[RunLine], study: ExperimentRuns, fit: Objective, generality: Objective) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    print(f"{study.name}: {len(lines)} runs; best and last {fit.name} / {generality.name}")
    table = Table("trial", "place", "ended", "best", "at step", "last", box=None, pad_edge=False, header_style="dim")
    for one in lines:
        step = "" if one.best_step is None else str(one.best_step)
        best, last = _pair(one.best_fit, one.best_generality), _pair(one.last_fit, one.last_generality)
        table.add_row(*map(escape, (one.trial, one.where, one.status, best, step, last)))
    console.print(table)


def _pair(fit: float | None, generality: float | None) -> str:
    if fit is None and generality is None:
        return ""
    return " / ".join("?" if one is None else f"{one:.3f}" for one in (fit, generality))


def _as_json(lines: Sequence[RunLine], fit: Objective, generality: Objective) -> str:
    body = {"fit": fit.name, "generality": generality.name, "runs": [asdict(one) for one in lines]}
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _as_csv(lines: Sequence[RunLine], fit: Objective, generality: Objective) -> str:
    """Write a row for each run; a value that is not known is an empty cell."""
    renamed = {"best_fit": f"best_{fit.name}", "best_generality": f"best_{generality.name}",
               "last_fit": f"last_{fit.name}", "last_generality": f"last_{generality.name}"}  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, [renamed.get(name, name) for name in RunLine.__dataclass_fields__],
                            lineterminator="\n")  # fmt: skip
    writer.writeheader()
    writer.writerows({renamed.get(name, name): value for name, value in asdict(one).items()} for one in lines)
    return text.getvalue()

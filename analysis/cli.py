"""The command line `analysis`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from analysis.compare.command import compare
from analysis.effects.command import effects
from analysis.seeds.command import seeds
from trainables.command import run
from trainables.errors import ExitCode, UserError

if TYPE_CHECKING:
    from analysis.charts.chart import Chart
    from analysis.frontier import FrontierInfo
    from analysis.mlflow_runs import ExperimentRuns


COLUMNS_WITHOUT_TERMINAL = 120

Format = Literal["table", "json", "csv", "markdown"]
ReportFormat = Literal["html", "markdown"]
TrackingUri = Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store.")]
Generality = Annotated[
    str,
    typer.Option(
        help="Generality: NAME or NAME:higher or NAME:lower.",
        show_default="irrelevant_pass; text_retention where no picture was shown",
    ),
]
Fit = Annotated[
    str,
    typer.Option(
        help="Task fit: NAME or NAME:higher or NAME:lower.",
        show_default="exact_match; eval_loss where no answer is exact",
    ),
]
Level = Annotated[
    float, typer.Option(min=0.5, max=0.999, help="Probability of meeting the constraint that the pick must have.")
]
FromFile = Annotated[
    Path | None,
    typer.Option("--from", help="Results that were not made here: CSV, JSON, or a directory of JSON; needs --map."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Column or metric of foreign results: x=NAME:lower, y=NAME:higher, label=, seed=, group=; repeatable.",
    ),
]
ExportAs = Annotated[
    str,
    typer.Option(help="Also write each winner's settings for axolotl, ms-swift or llamafactory.", show_default="none"),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def analysis() -> None:
    """Compare the trials of a study and report which placements to use."""


@app.command()
def pareto(  # noqa: PLR0913, PLR0917 one function is the whole command line
    experiment: Annotated[
        str, typer.Option(help="MLflow experiment: the study's name, for example stage4.", show_default="none")
    ] = "",
    tracking_uri: TrackingUri = "sqlite:///mlflow.db",
    from_file: FromFile = None,
    columns: Columns = None,
    x: Generality = "",
    y: Fit = "",
    objective: Annotated[list[str] | None, typer.Option(help="A further objective; repeatable.")] = None,
    level: Level = 0.9,
    out: Annotated[Path | None, typer.Option(help="Output directory.", show_default="frontier/<experiment>")] = None,
    form: Annotated[Format, typer.Option("--format", help="Format of the report on stdout.")] = "table",
    export_as: ExportAs = "",
) -> None:
    """Print the frontier of a study, and for each other placement why it is not on it.

    Writes pareto.html (opens without a network), pareto.png, pareto.csv and winners.json, which a next study can read
    with --winners, and logs them to the newest launch. Results that were not made here have no winners.json. Exits
    with 1 if results by row show that no candidate can be shipped.
    """
    from analysis.charts.candidate_paths import study_chart
    from analysis.mlflow_runs import read_experiment, read_measurements
    from analysis.objectives import EXACT, frontier_objectives
    from analysis.report.exporting import settings_of_winners, write_settings
    from trainables.export.trial import check_tool
    from trainables.metrics import GENERALITY

    if from_file is not None or columns:
        _require_no_study_options({"--x": x, "--y": y, "--objective": objective, "--export-as": export_as})
        _pareto_of_foreign(experiment, tracking_uri, from_file, columns or (), out, form)
        return
    _require_experiment(experiment)
    if export_as:
        check_tool(export_as)
    # refuse bad input before reading a store
    frontier_objectives(x or GENERALITY[0], y or EXACT, objective or ())
    study = read_experiment(experiment, tracking_uri)
    info = _concluded(study, tracking_uri, (x, y, *(objective or ())), level)
    directory = out or Path("frontier") / _as_directory_name(experiment)
    files = _write_files(info, directory, study_chart(info, read_measurements(study, tracking_uri)))
    _print(info, form, files)
    _log(tracking_uri, study.newest_launch_run_id, files)
    if export_as:
        settings = write_settings(settings_of_winners(info, export_as), directory)
        _say(f"written: {', '.join(map(str, settings))}")
    if info.choice is not None and info.choice.picked is None:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command()
def results(
    experiment: Annotated[str, typer.Option(help="Experiment name, a directory in --storage, for example stage4.")],
    trial: Annotated[
        str | None, typer.Option(help="Name or id of one trial.", show_default="all with a result")
    ] = None,
    storage: Annotated[Path, typer.Option(help="Directory that holds the experiments.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="Directory for the pages; the PDFs go to images/ in it.")] = Path("docs"),
    tracking_uri: TrackingUri = "sqlite:///mlflow.db",
) -> None:
    """Write a page for each trained trial from its record, with its loss curves as PDF."""
    from analysis.trial_report.page import write_results
    from analysis.trial_report.results import read_results, runs_of

    found = read_results(storage, experiment, trial)
    runs = runs_of(experiment, tracking_uri)
    for one in found:
        for path in write_results(one, out, runs.get(one.spec.trial_id)):
            print(path)


app.command()(compare)
app.command()(effects)
app.command()(seeds)


@app.command()
def report(
    experiment: Annotated[str, typer.Option(help="MLflow experiment: the study's name, for example stage4.")],
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="report.html or report.md")] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="Format of the report.")] = "html",
    x: Generality = "",
    y: Fit = "",
    level: Level = 0.9,
    tracking_uri: TrackingUri = "sqlite:///mlflow.db",
) -> None:
    """Write one page on a study: what to ship and how sure, and the evidence; it opens without a network."""
    from datetime import UTC, datetime

    from analysis.contenders import pick_of
    from analysis.mlflow_runs import read_experiment, read_measurements
    from analysis.objectives import EXACT, frontier_objectives
    from analysis.study_report.content import content_of
    from analysis.study_report.page import write_report
    from trainables.metrics import GENERALITY

    frontier_objectives(x or GENERALITY[0], y or EXACT, ())  # refuse bad input before reading a store
    study = read_experiment(experiment, tracking_uri)
    info, measured = _concluded(study, tracking_uri, (x, y), level), read_measurements(study, tracking_uri)
    found = info.choice or pick_of(study, measured, info.objectives)
    content = content_of(info, found, measured, datetime.now(UTC).date())
    path = out or Path("report.html" if form == "html" else "report.md")
    write_report(content, path, form)
    print(f"written: {path}")


@app.command()
def ship(
    experiment: Annotated[str, typer.Option(help="MLflow experiment: the study's name, for example stage4.")],
    out: Annotated[Path, typer.Option(help="New directory for what is shipped.")],
    arm: Annotated[str, typer.Option(help="Arm to ship.", show_default="the one that the rows and seeds pick")] = "",
    y: Fit = "",
    scale: Annotated[float, typer.Option(help="Strength from 0 (the base) to 1 (as trained).")] = 1.0,
    merge: Annotated[bool, typer.Option("--merge", help="Ship the merged model instead of an adapter.")] = False,
    tracking_uri: TrackingUri = "sqlite:///mlflow.db",
) -> None:
    """Write an adapter or a merged model with its card, after a fresh process has measured the recorded numbers.

    No file names a path of this machine. The seed is the admissible one of lowest eval loss.
    """
    from analysis.mlflow_runs import read_experiment, read_measurements
    from analysis.objectives import fit_in, frontier_objectives, generality_in
    from analysis.shipping.card import agreement_lines
    from analysis.shipping.chosen import chosen
    from analysis.shipping.ship import ShippingOptions
    from analysis.shipping.ship import ship as write_shipment
    from trainables.shipping.package import check_scale

    check_scale(scale)
    study = read_experiment(experiment, tracking_uri)
    objectives = frontier_objectives(generality_in(study.trials), y or fit_in(study.trials), ())
    choice = chosen(study, read_measurements(study, tracking_uri), objectives, arm)
    _say(f"shipping {choice.trial.name} @ {choice.measured.step}: {choice.why}")
    shipment = write_shipment(choice, ShippingOptions(scale, merge), out)
    for line in agreement_lines(shipment.agreements) or ["not compared: no eval of this strength is recorded"]:
        print(line)
    print(f"shipped: {out}, loaded in a fresh process and measured")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with a documented code."""
    run(app, arguments)


def _concluded(study: ExperimentRuns, tracking_uri: str, words: Sequence[str], level: float) -> FrontierInfo:
    """Return the frontier by the objectives in `words`: generality, task fit (empty for the default), further ones."""
    from analysis.frontier import frontier_info
    from analysis.judged import MINIMUM_LOSS_GAIN
    from analysis.mlflow_runs import read_measurements
    from analysis.objectives import LOSS, fit_in, frontier_objectives, generality_in
    from analysis.study_constraint import constraint_of

    x, y, *further = words
    objectives = frontier_objectives(x or generality_in(study.trials), y or fit_in(study.trials), further)
    if not y and objectives[1].name == LOSS:
        _say(f"no answer is exact in any trial: the fit is {LOSS}; a gain below {MINIMUM_LOSS_GAIN:g} counts as none")
    return frontier_info(study, objectives, read_measurements(study, tracking_uri), constraint_of(study), level)


def _require_experiment(experiment: str) -> None:
    if not experiment:
        raise UserError("--experiment must name a study, or --from a file of results, but neither is given",
                        "for example --experiment stage4")  # fmt: skip


def _require_no_study_options(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise UserError(f"results that were not made here are compared by --map alone, but {given[0]} is given too",
                        f"name x and y with --map, and leave out {' and '.join(given)}")  # fmt: skip


def _pareto_of_foreign(
    experiment: str, tracking_uri: str, path: Path | None, texts: Sequence[str], out: Path | None, form: Format
) -> None:
    from analysis.charts.chart import chart_of
    from analysis.foreign.columns import parse_map
    from analysis.foreign.results_file import read_results_file
    from analysis.foreign.runs import read_foreign_runs
    from analysis.frontier import frontier_info

    columns = parse_map(texts)
    if (path is None) == (not experiment):
        found = "both are" if experiment else "neither is"
        raise UserError(f"foreign results must come from --from or from --experiment, but {found} given",
                        "give one of the two")  # fmt: skip
    study = read_results_file(path, columns) if path else read_foreign_runs(experiment, tracking_uri, columns)
    info = frontier_info(study, columns.objectives)
    directory = out or Path("frontier") / _as_directory_name(study.name)
    _print(info, form, _write_files(info, directory, chart_of(info)))


def _write_files(info: FrontierInfo, directory: Path, chart: Chart) -> list[Path]:
    from analysis.charts.html import write_page
    from analysis.charts.png import write_png
    from analysis.report.tables import as_csv
    from analysis.report.winners_json import as_winners_json

    names = ("pareto.html", "pareto.png", "pareto.csv", "winners.json")
    page, picture, table, *winners = (directory / name for name in names[: 3 if info.is_foreign else 4])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_page(info, page, chart)
        write_png(chart, picture)
        table.write_text(as_csv(info), encoding="utf-8")
        for path in winners:  # a next study needs placements, which foreign results are not
            path.write_text(as_winners_json(info), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out must be a directory that can be written, but: {error}", "name another one") from error
    return [page, picture, table, *winners]


def _print(info: FrontierInfo, form: Format, files: Sequence[Path]) -> None:
    from analysis.report import tables

    written = "written: " + ", ".join(str(path) for path in files)
    if form == "table":
        from rich.console import Console

        tables.print_report(info, Console(width=None if sys.stdout.isatty() else COLUMNS_WITHOUT_TERMINAL))
        print(written)
    else:
        _say(written)
        write = {"json": tables.as_json, "csv": tables.as_csv, "markdown": tables.as_markdown}[form]
        sys.stdout.write(write(info))


def _log(tracking_uri: str, run_id: str | None, files: Sequence[Path]) -> None:
    from analysis.mlflow_runs import log_frontier

    if run_id is None:
        _say("not logged to MLflow: the experiment has no launch run")
        return
    try:
        log_frontier(tracking_uri, run_id, files)
    except UserError as error:
        # the report is already printed, so a store that refuses artifacts is not a failure
        _say(f"not logged to MLflow: {error}")
    else:
        _say(f"logged to MLflow: frontier/ of run {run_id}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _as_directory_name(experiment: str) -> str:
    return re.sub(r"[^\w.-]+", "-", experiment).strip("-.") or "experiment"


if __name__ == "__main__":
    main()

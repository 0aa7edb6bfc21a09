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
from analysis.open_page import OpenPage, open_page
from analysis.options import DEFAULT_LEVEL, ConclusionOptions, Fit, Generality, Level, TrackingUri
from analysis.runs_table import runs
from analysis.seeds.command import seeds
from analysis.shipping.command import ship
from analysis.study_report.command import report
from trainables.command import run
from trainables.errors import ExitCode, UserError
from trainables.progress import working

if TYPE_CHECKING:
    from analysis.charts.chart import Chart
    from analysis.conclusion import Conclusion
    from analysis.frontier import FrontierInfo


Format = Literal["table", "json", "csv", "markdown"]
FromFile = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Results that were not made here: CSV, JSON, or a directory of JSON; needs --map.",
        show_default="none",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Column or metric of foreign results: x=NAME:lower, y=NAME:higher, label=, seed=, group=; repeatable.",
        show_default="none",
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
    objective: Annotated[
        list[str] | None, typer.Option(help="A further objective; repeatable.", show_default="none")
    ] = None,
    level: Level = DEFAULT_LEVEL,
    out: Annotated[Path | None, typer.Option(help="Output directory.", show_default="frontier/<experiment>")] = None,
    form: Annotated[Format, typer.Option("--format", help="Format of the report on stdout.")] = "table",
    export_as: ExportAs = "",
    ask_finalists: Annotated[
        bool, typer.Option("--ask-finalists", help="First ask the finalists all rows, with `finalists`.")
    ] = False,
    is_opened: OpenPage = False,
) -> None:
    """Print the frontier of a study, and for each other placement why it is not on it.

    Writes pareto.html (opens without a network), pareto.png, pareto.csv and winners.json, which a next study can read
    with --winners, and logs them to the newest launch. Results that were not made here have no winners.json. Exits
    with 1 if results by row show that no candidate can be shipped.
    """
    if from_file is not None or columns:
        _require_no_study_options({"--x": x, "--y": y, "--objective": objective, "--export-as": export_as,
                                   "--ask-finalists": ask_finalists, "--level": level != DEFAULT_LEVEL})  # fmt: skip
        _pareto_of_foreign(experiment, tracking_uri, from_file, columns or (), out, form, is_opened)
        return
    _require_experiment(experiment)
    asked = ConclusionOptions(experiment, tracking_uri, x, y, tuple(objective or ()), level)
    _pareto_of_study(asked, out, form, export_as, ask_finalists, is_opened)


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
    from rich.console import Console

    with working(Console(stderr=True), f"reading {experiment}"):
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
app.command()(report)
app.command()(runs)
app.command()(ship)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with a documented code."""
    run(app, arguments)


def _require_experiment(experiment: str) -> None:
    if not experiment:
        raise UserError("--experiment must name a study, or --from a file of results, but neither is given",
                        "for example --experiment stage4")  # fmt: skip


def _require_no_study_options(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise UserError(f"results that were not made here are compared by --map alone, but {given[0]} is given too",
                        f"name x and y with --map, and leave out {' and '.join(given)}")  # fmt: skip


def _pareto_of_study(
    asked: ConclusionOptions, out: Path | None, form: Format, export_as: str, ask: bool, is_opened: bool
) -> None:
    from analysis.charts.candidate_paths import study_chart
    from analysis.report.exporting import settings_of_winners, write_settings
    from analysis.report.next_commands import next_commands, with_finalists_asked
    from trainables.export.trial import check_tool

    if export_as:
        check_tool(export_as)
    found = _concluded(asked)
    if ask:
        found = with_finalists_asked(found, asked)
    info, directory = found.info, out or Path("frontier") / _as_directory_name(asked.experiment)
    files = _write_files(info, directory, study_chart(info, found.measured))
    _print(info, form, files)
    _log(asked.tracking_uri, found, files)
    if export_as:
        settings = write_settings(settings_of_winners(info, export_as), directory)
        _say(f"written: {', '.join(map(str, settings))}")
    _print_next(next_commands(found, asked), form)
    if is_opened:
        open_page(files[0])
    if info.choice is not None and info.choice.picked is None:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _pareto_of_foreign(
    experiment: str, tracking_uri: str, path: Path | None, texts: Sequence[str], out: Path | None, form: Format,
    is_opened: bool,
) -> None:  # fmt: skip
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
    files = _write_files(info, directory, chart_of(info))
    _print(info, form, files)
    if is_opened:
        open_page(files[0])


def _concluded(asked: ConclusionOptions) -> Conclusion:
    from rich.console import Console

    from analysis.read_conclusion import read_conclusion

    with working(Console(stderr=True), f"reading {asked.experiment}, and drawing again from its rows and seeds"):
        return read_conclusion(asked)


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

        tables.print_report(info, Console())
        print(written)
    else:
        _say(written)
        write = {"json": tables.as_json, "csv": tables.as_csv, "markdown": tables.as_markdown}[form]
        sys.stdout.write(write(info))


def _print_next(commands: Sequence[str], form: Format) -> None:
    if commands:
        lines = "\n".join(["next:", *(f"    {one}" for one in commands)])
        print(lines, file=sys.stdout if form == "table" else sys.stderr)


def _log(tracking_uri: str, found: Conclusion, files: Sequence[Path]) -> None:
    from analysis.mlflow_runs import log_frontier
    from analysis.report.winners_json import tags_of_pick

    run_id = found.study.newest_launch_run_id
    if run_id is None:
        _say("not logged to MLflow: the experiment has no launch run")
        return
    try:
        log_frontier(tracking_uri, run_id, files, tags_of_pick(found.info.choice))
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

"""The driver of all command lines: parses options, plans, shows or runs a job, and exits with a documented code."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sweeps.cli.command_line import CommandLine, OwnT
from sweeps.cli.config_options import config_parameters, configured, with_words_first, write_study_file
from sweeps.cli.options import EXIT_CODES, LaunchOptions
from sweeps.cli.printed_commands import FINISHING, launch_command, stop_message, sync_command
from sweeps.cli.signature import Parameter, signature_of
from sweeps.study import Study
from trainables.command import run, show_library_messages
from trainables.errors import Checkpointed, ExitCode, InfrastructureError, UserError
from trainables.progress import working
from trainables.typed import typed
from trainables.verdict import VERDICT

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.job import Job
    from trainables.record import Record


def run_command_line(line: CommandLine[Any]) -> None:
    """Parse the command line, plan, show or run its job, and exit with a documented code."""
    run(app_of(line))


def app_of(line: CommandLine[Any]) -> typer.Typer:
    """Return the app that plans, shows or runs the job of a command line."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    parameters = line.parameters()

    def command(context: typer.Context, write_config: Path | None = None, **values: Any) -> None:
        if line.with_study:
            values.pop("config")  # has been read
        values = with_words_first(context, parameters, values)
        given = [one for one in parameters if _is_given(context, one.name)]
        chosen = configured(line, context)
        if write_config is not None:
            write_study_file(write_config, chosen, values, [*given, *_in_file(context, parameters)])
            raise typer.Exit
        raise typer.Exit(_exit_code_of(chosen, words_of(context), values, given))

    own = signature_of(parameters)
    extra = config_parameters(line) if line.with_study else []
    command.__signature__ = own.replace(  # type: ignore[attr-defined] for typer
        parameters=[*own.parameters.values(), *extra]
    )
    app.command(help=f"{line.study.question}\n\n{EXIT_CODES}")(command)
    return app


def exit_code(records: list[Record]) -> int:
    """Return the code of trials without a usable result, if there is one; a pruned trial is a result."""
    kinds = {verdict.kind for record in records if (verdict := record.verdict())}
    return ExitCode.TRIALS_FAILED if kinds & {"invalid", "infeasible", "failed"} else ExitCode.DONE


def words_of(context: typer.Context) -> list[str]:
    """Return the words after the command's name: all of them, or those after the name of a subcommand."""
    words = sys.argv[1:]
    return words if context.parent is None else words[words.index(str(context.info_name)) + 1 :]


def _exit_code_of(
    line: CommandLine[Any], words: Sequence[str], values: Mapping[str, Any], given: Collection[Parameter]
) -> int:
    launch: Launch | None = None
    try:
        shared = LaunchOptions(**{name: values[name] for name in line.shared})
        own = line.own(**{name: value for name, value in values.items() if name not in line.shared})
        command = launch_command(line.words, words)
        launch = replace(line.launch(own, shared, command), sync_command=sync_command(line, values, given))
        _check_finishing(line, values, given)
        if shared.verbose:
            show_library_messages()
        return _act(line, own, shared, launch)
    except KeyboardInterrupt as stop:
        typer.echo(stop_message(line, values, given, launch, isinstance(stop, Checkpointed)), err=True)
        return ExitCode.STOPPED


def _act(line: CommandLine[OwnT], own: OwnT, shared: LaunchOptions, launch: Launch) -> int:
    launch.directory(line.study)  # refuse an invalid experiment name before anything is read
    if shared.sync:
        _sync_records(line.study, launch)
        return 0
    with working(launch.console, f"{line.study.name}: importing"):  # which takes seconds
        from sweeps.cli.ahead import ahead
        from sweeps.execution.begun_records import TrialsLost
        from sweeps.job import run_job, show_job

        job = line.job(own, shared, launch)
    if shared.dry_run:
        plan = show_job(job)
        if shared.as_json:
            typer.echo(plan)
        return 0
    try:
        with ahead(launch):
            records = run_job(job)
    except TrialsLost as lost:
        _print_summary(job, lost.whole, shared)
        raise
    except InfrastructureError:
        _print_count(job)
        raise
    _print_summary(job, records, shared)
    return exit_code(records)


def _print_summary(job: Job[Any], records: list[Record], shared: LaunchOptions) -> None:
    from rich.console import Console

    from sweeps.display.closing_tables import closing_tables
    from sweeps.display.launch_json import results_json
    from sweeps.display.summary import summary
    from sweeps.tracking.tracker import pages_of

    launch = job.launch
    console = Console(stderr=shared.as_json) if shared.quiet else launch.console
    for table in closing_tables(job.study, records):
        console.print(table)
    experiment = launch.experiment or job.study.name
    pages = pages_of(experiment, launch.tracking_uri)
    text = summary(job.study, records, experiment, launch.tracking_uri, pages)
    console.print(text, soft_wrap=True, highlight=False)
    if shared.as_json:
        typer.echo(results_json(experiment, records, exit_code(records)))


def _print_count(job: Job[Any]) -> None:
    """Print how the trials of a launch that broke off stand, if any has a result."""
    from sweeps.execution.notifier import counted
    from trainables.record import records_under

    directory = job.launch.directory(job.study)
    records = records_under(directory / "trials")
    if any((record.directory / VERDICT).exists() for record in records):
        job.launch.console.print(f"{directory.name}: {counted(records)}", soft_wrap=True, highlight=False)


def _sync_records(study: Study, launch: Launch) -> None:
    """Copy to MLflow what it lacks of an experiment's records.

    Raises:
        UserError: there are no records, or MLflow does not answer.
    """
    from sweeps.tracking.sync import sync_all
    from trainables.mlflow_store import default_tracking_uri

    directory = launch.directory(study)
    if not (directory / "study.json").exists():
        raise UserError(f"only an experiment with records can be copied to MLflow, but {directory} has none",
                        typed("list", "--storage", str(directory.parent)) + " shows those of this storage")  # fmt: skip
    question = study.question if directory.name == study.name else ""  # any study's command copies any experiment
    names = sync_all(directory, launch.tracking_uri or default_tracking_uri(), directory.name, question)
    typer.echo(f"copied {len(names)} trials of `{directory.name}` to MLflow")


def _check_finishing(line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter]) -> None:
    """Refuse options that `--resume` would ignore, and actions that `--sync` cannot be combined with.

    Raises:
        UserError: naming them.
    """
    actions = [one for one in given if one.name in (*FINISHING, "dry_run") and values[one.name]]
    finishing = next((one for one in actions if one.name in FINISHING), None)
    if finishing is None:
        return
    if finishing.name == "resume" and not line.resume_takes_all_options:
        allowed = {finishing.name, *line.accepted_by_resume()}
        ignored = [one.flag for one in given if one.name not in allowed]
    else:  # `--sync` ignores the settings of the launch that it follows
        both = "sync" in {one.name for one in actions}
        ignored = [one.flag for one in actions if both and one is not finishing]
    if ignored:
        raise UserError(
            f"{finishing.flag} cannot be combined with {', '.join(ignored)}: the experiment keeps the settings it was "
            "started with",
            f"leave out {ignored[0]}, or start another experiment with --experiment NAME",
        )


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _in_file(context: typer.Context, parameters: Collection[Parameter]) -> list[Parameter]:
    """Return the parameters whose values come from `--config`."""
    sources = {one.name: context.get_parameter_source(one.name) for one in parameters}
    return [one for one in parameters if (source := sources[one.name]) and source.name == "DEFAULT_MAP"]

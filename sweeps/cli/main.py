from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from sweeps.study import Study
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from trainables.record import Record


def guarded(study: Study, launch: Launch, act: Callable[[], list[Record] | None], again: str) -> int:
    """Do what a command line asks; says what came of it, or what must be corrected, and returns the exit code.

    `act` returns the records of a launch that ended, None where nothing was run; `again` is the command that resumes.
    """
    from sweeps.display import summary
    from sweeps.display.closing_tables import closing

    try:
        launch.directory(study)  # its name is refused before anything is read
        records = act()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        typer.echo(f"stopped; every running trial has a checkpoint. Resume with:\n\n    {again}", err=True)
        return 130
    if records is None:
        return 0
    for table in closing(study, records):
        launch.console.print(table)
    launch.console.print(
        summary.summary(study, records, launch.experiment or study.name), soft_wrap=True, highlight=False
    )
    return exit_code(records)


def exit_code(records: list[Record]) -> int:
    """Return 3 when a trial has no usable result, else 0; a pruned trial is a result."""
    kinds = {verdict.kind for record in records if (verdict := record.verdict())}
    return 3 if kinds & {"invalid", "infeasible", "failed"} else 0


def sync_records(study: Study, launch: Launch) -> None:
    """Complete MLflow from the records of an experiment.

    Raises:
        UserError: there are none, or MLflow does not answer.
    """
    from sweeps.tracking.tracker import default_tracking_uri, sync_all

    directory = launch.directory(study)
    if not (directory / "study.json").exists():
        raise UserError(f"only an experiment with records can be mirrored, but {directory} has none")
    uri = launch.tracking_uri or default_tracking_uri()
    names = sync_all(directory, uri, directory.name)
    typer.echo(f"mirrored {len(names)} trials of `{directory.name}`")


FINISH = ("resume", "sync")


# which experiment, and how it is run; none of it decides a result
HOW = ("storage", "experiment", "tracking_uri", "address", "cohort", "scheduler", "scheduler_options", "force")


def check_finishing(context: typer.Context) -> None:
    """Refuse options that `--resume` or `--sync` would not look at.

    Raises:
        UserError: naming them.
    """
    finishing = [name for name in FINISH if context.params[name]]
    if not finishing:
        return
    allowed = {finishing[0], *HOW}
    options = {one.name: _shown(one) for one in context.command.params}
    lost = [shown for name, shown in options.items() if name not in allowed and _is_given(context, name)]
    if lost:
        raise UserError(
            f"{options[finishing[0]]} finishes what the experiment began, so nothing else may be asked for, but got "
            f"{', '.join(lost)}",
            f"leave out {lost[0]}, or begin another with --experiment NAME",
        )


def _is_given(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"


def _shown(parameter: object) -> str:
    words: list[str] = getattr(parameter, "opts", [])
    return next((word for word in words if word.startswith("--")), words[0].upper() if words else "")

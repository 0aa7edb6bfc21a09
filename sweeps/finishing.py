"""`--resume` and `--sync` finish what an experiment began; whatever else a command line asks for would be lost."""

from __future__ import annotations

import typer

from trainables.errors import UserError

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

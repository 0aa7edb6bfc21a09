"""The commands that a launch prints: typed as they stand, they resume it or copy its records to MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.cli.signature import Parameter
from trainables.errors import UserError, holds_password

if TYPE_CHECKING:
    from sweeps.cli.command_line import CommandLine
    from sweeps.execution.options import Launch

FINISHING = ("resume", "sync")
ADDRESS_NOTE = "  # first set MLFLOW_TRACKING_URI to the address of the store, whose password is not printed"
NOTIFY, NOTIFY_NOTE = "--notify", "  # and --notify, whose value is not printed"
NEEDED_BY_SYNC = ("storage", "experiment", "tracking_uri")


def resume_command(line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter]) -> str:
    """Return the command that resumes this launch: its arguments, `--resume`, and the options that it accepts."""
    return _command(line, values, given, "--resume", line.accepted_by_resume())


def sync_command(line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter]) -> str:
    """Return the command that copies the records of this launch to MLflow; its arguments name the experiment."""
    arguments = [one.name for one in line.parameters() if one.is_argument] if line.experiment_of else []
    return _command(line, values, given, "--sync", (*arguments, *NEEDED_BY_SYNC))


def _command(
    line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter], action: str, names: Collection[str]
) -> str:  # fmt: skip
    secret = holds_password(values.get("tracking_uri"))
    unwanted = (*FINISHING, "dry_run", "steal", "notify", *(["tracking_uri"] if secret else []))
    notifies = "notify" in names and any(one.name == "notify" for one in given)
    kept = [one for one in given if one.name in names and one.name not in unwanted]
    options = [word for one in kept if not one.is_argument for word in one.words(values[one.name])]
    arguments = [word for one in kept if one.is_argument for word in one.words(values[one.name])]
    # an argument that begins like an option must follow `--`
    separator = ["--"] if any(word.startswith("-") for word in arguments) else []
    words = [action, *(["--config", str(line.config)] if line.config else []), *options]
    words = [*words, *separator, *arguments] if separator else [*arguments, *words]
    return shlex.join([*line.words, *words]) + ADDRESS_NOTE * secret + NOTIFY_NOTE * notifies


def launch_command(program: Sequence[str], words: Sequence[str]) -> str:
    """Return the command of a launch as MLflow shows it: without the value of `--notify`, which can be a secret."""
    shown = ["***" if number and words[number - 1] == NOTIFY else word for number, word in enumerate(words)]
    shown = [f"{NOTIFY}=***" if word.startswith(f"{NOTIFY}=") else word for word in shown]
    return shlex.join([*program, *shown])


def stop_message(
    line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter], launch: Launch | None,
    has_checkpointed: bool,
) -> str:  # fmt: skip
    """Return what to print after Ctrl-C: what is kept, and the command that goes on, if there is anything to resume."""
    if values.get("dry_run"):
        return "stopped; nothing was written"
    if values.get("sync"):
        return f"stopped; MLflow may lack some trials. Go on with:\n\n    {sync_command(line, values, given)}"
    if launch is None or not _has_begun(line, launch):
        return "stopped before any trial began; nothing was trained"
    kept = "every running trial has a checkpoint" if has_checkpointed else "trials go on from their newest checkpoints"
    return f"stopped; {kept}. Resume with:\n\n    {resume_command(line, values, given)}"


def _has_begun(line: CommandLine[Any], launch: Launch) -> bool:
    try:
        return any(launch.directory(line.study).glob(line.begun))
    except UserError:
        return False

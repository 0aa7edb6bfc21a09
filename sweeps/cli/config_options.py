"""The options `--config` and `--write-config` of a study's command line."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeps.cli.command_line import CommandLine, OwnT
from sweeps.cli.options import SPACE
from sweeps.cli.signature import Parameter
from trainables.errors import UserError

STUDY = "footprint.study"  # key of the context's values: the study as the file has it
# of each only one may be given: a word of the command line takes the place of the file's
EXCLUSIVE = (("steps", "epochs"), ("only", "recommended"), ("test", "split_holdout"), ("ood_test", "split_holdout"))


def config_parameters(line: CommandLine[Any]) -> list[inspect.Parameter]:
    """Return both options; `--config` is read before all others, whose defaults it replaces."""

    def read(context: typer.Context, path: Path | None) -> Path | None:
        if path is not None and not context.resilient_parsing:
            _read(context, line, path)
        return path

    config = typer.Option(
        "--config",
        is_eager=True,
        callback=read,
        rich_help_panel=SPACE,
        show_default="none",
        help="YAML file with the study's arms, settings, guards and options; options given here win.",
    )
    write = typer.Option(
        "--write-config",
        rich_help_panel=SPACE,
        show_default="none",
        help="Write such a file, with these options, and its schema for editors; run nothing.",
    )
    kind, empty = inspect.Parameter.KEYWORD_ONLY, Path | None
    return [
        inspect.Parameter("config", kind, default=None, annotation=Annotated[empty, config]),
        inspect.Parameter("write_config", kind, default=None, annotation=Annotated[empty, write]),
    ]


def configured(line: CommandLine[OwnT], context: typer.Context) -> CommandLine[OwnT]:
    """Return the command line of the study in the file of `--config`, or `line` itself without one."""
    if line.with_study is None or STUDY not in context.meta:
        return line
    path, study = context.meta[STUDY]
    return replace(line.with_study(study), program=line.program, config=path)


def with_words_first(
    context: typer.Context, parameters: Collection[Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """Return the values of the parameters without those of the file that exclude a word of the command line."""
    defaults = {one.name: one.default for one in parameters}
    sources = {name: source.name for name in defaults if (source := context.get_parameter_source(name))}
    typed, filed = ({name for name, source in sources.items() if source == kind}
                    for kind in ("COMMANDLINE", "DEFAULT_MAP"))  # fmt: skip
    replaced = {name for group in EXCLUSIVE if typed.intersection(group) for name in filed.intersection(group)}
    return {**values, **{name: defaults[name] for name in replaced}}


def write_study_file(
    path: Path, line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter]
) -> None:  # fmt: skip
    """Write the file of a study and its schema beside it, and say how it is used.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    from sweeps.cli.study_file import SCHEMA_FILE, schema, written

    if path.exists():
        raise UserError(f"--write-config must name a new file, but {path} exists", "choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(SCHEMA_FILE).write_text(schema(line), encoding="utf-8")
        path.write_text(written(line, values, given), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--write-config must be a file that can be written, but: {error}", "name another") from error
    typer.echo(f"written: {path}, {path.with_name(SCHEMA_FILE)}")
    typer.echo(f"run it with: {' '.join(line.words)} --config {path}")


def _read(context: typer.Context, line: CommandLine[Any], path: Path) -> None:
    from sweeps.cli.study_file import defaults_in, read_study_file, study_with

    given = read_study_file(path, line)
    context.meta[STUDY] = path, study_with(line.study, given)
    context.default_map = {**(context.default_map or {}), **defaults_in(path, given, line.parameters())}

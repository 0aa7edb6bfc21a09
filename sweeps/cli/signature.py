"""Converts dataclasses of options to the signature that typer reads, and values back to words of a command line."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

import typer

from sweeps.cli.options import OPTION, Option


@dataclass(frozen=True)
class Parameter:
    """One parameter of a command line, made from a field of a dataclass."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def is_argument(self) -> bool:
        """True for a positional argument."""
        return not self.option.panel

    @property
    def flag(self) -> str:
        """Return the flag of an option, or the name of an argument in capitals."""
        return self.name.upper() if self.is_argument else self.option.flag or f"--{self.name.replace('_', '-')}"

    def words(self, value: Any) -> list[str]:
        """Return the words of a command line that set the parameter to this value."""
        if self.is_argument or isinstance(value, bool):
            values = [] if isinstance(value, bool) else value if isinstance(value, list | tuple) else [value]
            return [self.flag] if value is True else [str(one) for one in values]
        return [
            word for one in (value if isinstance(value, list | tuple) else [value]) for word in (self.flag, str(one))
        ]


def parameters_of(
    options: type, names: Collection[str] | None = None, changed: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Parameter]:
    """Return the parameters of a dataclass of options, in field order; only those in `names` if it is given.

    `changed` maps names of parameters to replacements of their `default` or of values of their `Option`.
    """
    helps, types, found = _docstrings(options), get_type_hints(options), []
    for one in fields(options):
        if names is not None and one.name not in names:
            continue
        changes = dict((changed or {}).get(one.name, {}))
        default = changes.pop("default", _default(one))
        shown: Option = replace(one.metadata[OPTION], **changes)
        shown = shown if shown.help else replace(shown, help=helps[one.name])
        found.append(Parameter(one.name, types[one.name], default, shown))
    return found


def signature_of(parameters: Collection[Parameter]) -> inspect.Signature:
    """Return the signature of a typer command: its context, then these parameters."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    own = [
        inspect.Parameter(one.name, keyword, default=one.default, annotation=Annotated[one.type, _typer(one)])
        for one in parameters
    ]
    return inspect.Signature([context, *own])


def _typer(one: Parameter) -> Any:
    shown = one.option
    texts: dict[str, Any] = {"help": shown.help, "show_default": shown.shown_default or True}
    if one.is_argument:
        return typer.Argument(**texts)
    flags = [one.flag, *filter(None, [shown.short])]
    return typer.Option(*flags, min=shown.minimum, rich_help_panel=shown.panel, **texts)


def _default(one: Field[Any]) -> Any:
    return inspect.Parameter.empty if one.default is MISSING else one.default


def _docstrings(options: type) -> dict[str, str]:
    """Return the docstring after each field of a dataclass, as one line."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    found: dict[str, str] = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for one, following in itertools.pairwise(body):
        match one, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found

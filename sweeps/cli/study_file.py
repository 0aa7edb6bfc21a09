"""A study's configuration as one YAML file: read by `--config`, written by `--write-config`."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from sweeps.cli.signature import Parameter
from sweeps.study import Arm, PreflightLimits, Study
from trainables.errors import UserError, named, nearest, quoted
from trainables.guards import RULES, described, guard_of
from trainables.io.strict_yaml import Document, read_yaml
from trainables.spec import Frozen

if TYPE_CHECKING:
    from sweeps.cli.command_line import CommandLine

SCHEMA_FILE = "footprint.schema.json"
# of one launch, or secret
NOT_IN_FILE = ("dry_run", "resume", "sync", "force", "steal", "notify", "as_json", "quiet", "verbose")
DATA = ("train", "val", "ood", "test", "ood_test")  # files, which a file names relative to itself


class ArmInFile(Frozen):
    """One placement: how many of the last layers of each tower carry LoRA, and settings of this arm alone."""

    language: int = Field(0, ge=0, description="Last language layers with LoRA.")
    vision: int = Field(0, ge=0, description="Last vision blocks with LoRA.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of this arm alone.")
    miniature: dict[str, Any] = Field(default_factory=dict, description="The same on the miniature.")


class StudyFile(Frozen):
    """A study: what is left out keeps the value of the study that `study` names."""

    study: str = Field(description="The study whose values the file changes.")
    question: str | None = Field(None, description="What the trials answer.")
    arms: dict[str, ArmInFile] | None = Field(None, description="All arms, by name.")
    recommended: list[str] | None = Field(None, description="Arms of `--recommended`.")
    settings: dict[str, Any] | None = Field(None, description="Settings of every trial, or `epochs`.")
    miniature: dict[str, Any] | None = Field(None, description="Settings on the miniature, over `settings`.")
    guards: list[Any] | None = Field(None, description="All guards: a rule, its metric and its values.")
    constraint: dict[str, float] | None = Field(None, description="What the best checkpoint must keep, in points.")
    limits: Any = Field(None, description="Thresholds of the checks before a launch.")
    options: Any = Field(None, description="Options of the command line, with underscores.")


def read_study_file(path: Path, line: CommandLine[Any]) -> StudyFile:
    """Return the content of a file for the command line of a study.

    Raises:
        UserError: the file cannot be read, is another study's, or a key or value in it is wrong; the line is named.
    """
    document = read_yaml(path)
    if "study" not in document.values:
        raise UserError(f"{path} must be a mapping with the key `study`",
                        f"write one: {' '.join(line.words)} --write-config {path}")  # fmt: skip
    name = document.values["study"]
    if name != line.study.name:
        raise UserError(f"{document.where('study')}: the study must be `{line.study.name}`, but it is {quoted(name)}",
                        f"footprint {name} --config {path}")  # fmt: skip
    try:
        found = model_of(line).model_validate(document.values)
    except ValidationError as error:
        raise _as_user_error(error, document, line) from None
    return StudyFile.model_validate(found.model_dump(exclude_unset=True))


def study_with(study: Study, given: StudyFile) -> Study:
    """Return the study with the values of a file."""
    changed: dict[str, Any] = {}
    for name in ("question", "settings", "miniature"):
        if (value := getattr(given, name)) is not None:
            changed[name] = _with_tuples(value)
    if given.arms is not None:
        changed["arms"] = tuple(Arm(name, **_with_tuples(arm.model_dump())) for name, arm in given.arms.items())
        kept = given.arms if given.recommended is None else given.recommended
        changed["recommended"] = tuple(one for one in study.recommended if one in kept)
        changed["refused"] = tuple(one for one in study.refused if one in given.arms)
    if given.recommended is not None:
        changed["recommended"] = tuple(given.recommended)
    if given.guards is not None:
        changed["guards"] = tuple(guard for one in given.guards if (guard := guard_of(one)))
    if given.constraint is not None:
        changed["constraint"] = replace(study.constraint, **given.constraint)  # type: ignore[type-var] a dataclass
    if given.limits is not None:
        changed["limits"] = replace(study.limits, **given.limits)
    return replace(study, **changed)


def defaults_in(path: Path, given: StudyFile, parameters: Collection[Parameter]) -> dict[str, Any]:
    """Return the values of options in a file by the names of the parameters; files are relative to the file."""
    values: Mapping[str, Any] = given.options or {}
    return {one.name: _as_option(one, values[key], path.parent)
            for one in parameters if (key := key_of(one)) in values}  # fmt: skip


def key_of(parameter: Parameter) -> str:
    """Return the key of an option in a file: its flag, with underscores."""
    return parameter.name if parameter.is_argument else parameter.flag.removeprefix("--").replace("-", "_")


def written(line: CommandLine[Any], values: Mapping[str, Any], given: Collection[Parameter]) -> str:
    """Return the file of a study and the options that are given, as YAML."""
    study = line.study
    options = {key_of(one): _plain(values[one.name]) for one in given if one.name not in NOT_IN_FILE}
    content = {
        "study": study.name,
        "question": study.question,
        "options": options,
        "arms": {arm.name: _arm(arm) for arm in study.arms},
        "recommended": list(study.recommended),
        "settings": _plain(dict(study.settings)),
        "miniature": _plain(dict(study.miniature)),
        "guards": [described(one) for one in study.guards],
        "constraint": asdict(study.constraint),
        "limits": asdict(study.limits),
    }
    text = yaml.safe_dump({key: value for key, value in content.items() if value}, sort_keys=False, allow_unicode=True)
    return f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}"


def schema(line: CommandLine[Any]) -> str:
    """Return the JSON schema of the files of a command line, for editors."""
    return json.dumps(model_of(line).model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def model_of(line: CommandLine[Any]) -> type[BaseModel]:
    """Return the model of the files of a command line: its options, and the rules of guards, by name and type."""
    options = _model("Options", {
        key_of(one): (_type_in_file(one), Field(None, description=one.option.help))
        for one in line.parameters() if one.name not in NOT_IN_FILE
    })  # fmt: skip
    union = functools.reduce(operator.or_, (_model_of_rule(name, rule) for name, rule in RULES.items()))
    limits = _model("Limits", {one.name: (type(one.default), one.default) for one in fields(PreflightLimits)})
    constraint = _model("Constraint", {one.name: (float | None, None) for one in fields(line.study.constraint)})
    types = {"options": options, "limits": limits, "guards": list[union], "constraint": constraint}
    texts = {name: one.description for name, one in StudyFile.model_fields.items()}
    own = {name: (one | None, Field(None, description=texts[name])) for name, one in types.items()}
    study: Any = Literal[line.study.name]  # type: ignore[valid-type] a value, for pydantic
    return _model("StudyFile", {"study": (study, Field(description=texts["study"])), **own}, StudyFile)


def _model(name: str, own: Mapping[str, Any], base: type[BaseModel] = Frozen) -> Any:
    values: Any = dict(own)  # names and types are known only here
    return create_model(name, __base__=base, **values)


def _model_of_rule(name: str, rule: type) -> Any:
    types = {"str": str, "float": float, "int": int}
    own: dict[str, Any] = {one.name: (types[str(one.type)], ...) for one in fields(rule)}
    kind: Any = Literal[name]  # type: ignore[valid-type] a value, for pydantic
    return _model(name, {"rule": (kind, ...), **own})


def _type_in_file(one: Parameter) -> Any:
    kinds: dict[Any, Any] = {bool: bool, int: int, float: float}
    if one.type in kinds:
        return kinds[one.type] | None
    return str | int | float | list[str | int | float] | None


def _as_option(one: Parameter, value: Any, directory: Path) -> Any:
    several = value if isinstance(value, list) else [value]
    if one.name in DATA:
        return ",".join(_beside(str(item), directory) for item in several)
    if one.name == "base" or one.type in (Path, Path | None):
        found = directory / str(value)
        return str(found) if found.exists() and not Path(str(value)).exists() else str(value)
    if one.type in (bool, int, float, int | None, float | None):
        return value
    if "list" in str(one.type):
        return [str(item) for item in several]
    return ",".join(str(item) for item in several)


def _beside(text: str, directory: Path) -> str:
    return ",".join(str(directory / item) if item else item for item in text.split(","))


def _arm(arm: Arm) -> dict[str, Any]:
    own = {"settings": _plain(dict(arm.settings)), "miniature": _plain(dict(arm.miniature))}
    return {"language": arm.language, "vision": arm.vision, **{key: value for key, value in own.items() if value}}


def _with_tuples(value: Any) -> Any:
    """Return a value of a file with tuples for its lists, as studies have them."""
    if isinstance(value, Mapping):
        return {key: _with_tuples(one) for key, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _as_user_error(error: ValidationError, document: Document, line: CommandLine[Any]) -> UserError:
    problem = error.errors()[0]
    keys = [key for key in problem["loc"] if key in _keys(document.values) or isinstance(key, int)]
    where = document.where(*keys)
    if problem["type"] == "extra_forbidden":
        known = [key_of(one) for one in line.parameters()] if keys[0] == "options" else StudyFile.model_fields
        return UserError(f"{where}: `{named(str(keys[-1]))}` is not a key of a study's file",
                         nearest(str(keys[-1]), known))  # fmt: skip
    return UserError(f"{where}: {problem['msg'].lower()}, but got {quoted(problem['input'])}")


def _keys(value: Any) -> set[Any]:
    if isinstance(value, Mapping):
        return {*value, *(key for one in value.values() for key in _keys(one))}
    return {key for one in value for key in _keys(one)} if isinstance(value, list) else set()

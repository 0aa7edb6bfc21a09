"""Reads a configuration file as a trial: settings, sources, and a report on the effect of every key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group

from sweeps.importers.base_checks import TOKENS_KEY, check_remote_code, check_special_tokens
from sweeps.importers.documents import own_spec, read_document
from sweeps.importers.files import adapter_of, base_of, rows_of, tool_of
from sweeps.importers.import_report import as_json, differences_text, keys_text, settings_text
from sweeps.importers.packing import PackedSteps, packed_steps
from sweeps.importers.parsing import ParsedConfig, parse_config
from sweeps.importers.ranges import check_ranges
from sweeps.importers.setting import Setting
from sweeps.importers.settings import settings_of
from sweeps.importers.templates import check_template
from sweeps.planning.sources import Begun, Sources, gather
from sweeps.study import World
from trainables.checkpoints.adapter import adapter_source
from trainables.data.system_turn import write_with_system_turn
from trainables.errors import UserError
from trainables.model.families import family_of
from trainables.spec import Format, Placement, Source, TrialSpec
from trainables.typed import typed

if TYPE_CHECKING:
    from sweeps.execution.options import Launch


MINIATURES: dict[str, World] = {"mini": "pictures", "mini-text": "text"}
SHRUNK = "LLaMA-Factory first shrinks pictures to 589,824 pixels, the default of image_max_pixels; this trial does not"
OPTIONS = {"base": "--base", "train": "--train", "validation": "--val", "ood": "--ood"}


@dataclass(frozen=True)
class ImportedTrial:
    """A trial read from a configuration; `shown` is the report to print, `kept` the report to store as JSON."""

    settings: dict[str, Any]
    placement: Placement
    sources: Sources
    shown: tuple[Group, ...] = ()
    kept: dict[str, Any] | None = None
    format: Format | None = None  # that of an imported trial of this project, so that it keeps its id
    packed: PackedSteps | None = None  # the steps of a tool that packs


def read_config(
    path: Path, form: str, launch: Launch, data_directory: Path, replaced: Mapping[str, Any], begun: Begun
) -> ImportedTrial:
    """Read a configuration of another tool (`form`, detected by its keys if empty) or a trial of this project.

    `replaced` are the settings given on the command line; this function only shows them. `begun` is what the
    experiment keeps from its first launch.

    Raises:
        UserError: the file is broken or cannot be a trial; names file, line and key.
    """
    own = own_spec(path, form)
    if own:
        return _read_own(own, launch, data_directory, begun)
    return _read_foreign(path, form, launch, data_directory, replaced, begun)


def _read_foreign(
    path: Path, form: str, launch: Launch, data_directory: Path, replaced: Mapping[str, Any], begun: Begun
) -> ImportedTrial:
    document = read_document(path)
    mini = launch.base in MINIATURES
    parsed = parse_config(document, tool_of(document, form or None), _given(launch))
    sources = _on_miniature(launch, data_directory, begun) if mini else _sources(parsed, launch, data_directory, begun)
    family, values = family_of(sources.base.path)
    if not mini:  # the miniature has its own template and tokens
        check_remote_code(parsed, values)
        check_template(parsed, sources.base.path, str(values["model_type"]))
        check_special_tokens(parsed, sources.base.path)
    imported = settings_of(parsed, family.towers(values), values, sources.train_rows)
    check_ranges(parsed, imported)
    settings = imported.as_values()
    if "init_from" in parsed.fields:
        settings["init_from"] = _continued(parsed)
    traced = [
        *_source_settings(parsed, launch, sources), *_not_settings(parsed, mini, family.sees), imported.where,
        *_replaced(imported.settings, replaced),
    ]  # fmt: skip
    shown = (keys_text(parsed), *differences_text(parsed, traced), settings_text(traced))
    packed = packed_steps(parsed, imported)
    return ImportedTrial(settings, imported.placement, sources, shown, as_json(parsed, traced), packed=packed)


def _given(launch: Launch) -> dict[str, str]:
    """Return what the command line gives, by field, as the report names it."""
    given = {name: option for name, option in OPTIONS.items() if getattr(launch, name) is not None}
    if launch.base in MINIATURES:
        return {**dict.fromkeys(OPTIONS, "the miniature's own rows"), **given}
    return given


def _sources(parsed: ParsedConfig, launch: Launch, data_directory: Path, begun: Begun) -> Sources:
    _check_ood(parsed, launch)
    train, validation = launch.train or rows_of(parsed, "train"), launch.validation or rows_of(parsed, "validation")
    if parsed.value("system"):
        written = data_directory.resolve().parent / "with_system_turn"
        train, validation = (
            write_with_system_turn(one, parsed.value("system"), written) for one in (train, validation)
        )
    base = launch.base or base_of(parsed)
    return gather(base, train, validation, launch.ood, data_directory, drop=launch.drop, begun=begun)


def _not_settings(parsed: ParsedConfig, mini: bool, sees: bool) -> list[Setting]:
    """Return what the file says that is no setting of a trial, and what became of it."""
    found = []
    if parsed.value("system"):
        used = "not used: the miniature has its own rows" if mini else "the first turn of rows without a system turn"
        found.append(Setting("system turn", parsed.value("system"), f"{parsed.origin('system')}: {used}"))
    if sees and parsed.tool.name == "llamafactory":
        found.append(Setting("size of pictures", "", "the base's image processor", SHRUNK))
    if mini and parsed.document.values.get(TOKENS_KEY):
        found.append(Setting("special tokens", "", "not compared: the miniature has its own"))
    return found


def _continued(parsed: ParsedConfig) -> Source:
    try:
        return adapter_source(adapter_of(parsed))
    except UserError as error:
        raise parsed.error("init_from", f"must name an adapter: {error.message}", error.hint) from None


def _on_miniature(launch: Launch, data_directory: Path, begun: Begun) -> Sources:
    world = MINIATURES[launch.base or "mini"]
    return gather(None, launch.train, launch.validation, launch.ood, data_directory, world, launch.drop, begun)


def _replaced(settings: Iterable[Setting], replaced: Mapping[str, Any]) -> list[Setting]:
    # --epochs is converted to steps when the study is expanded
    given = {"steps": replaced["epochs"], **replaced} if "epochs" in replaced else replaced
    epochs = " epochs" if "epochs" in replaced else ""
    return [
        Setting(one.name, f"{given[one.name]:g}{epochs if one.name == 'steps' else ''}", "the command line")
        if one.name in given else one
        for one in settings
    ]  # fmt: skip


def _source_settings(parsed: ParsedConfig, launch: Launch, sources: Sources) -> list[Setting]:
    settings = []
    for name, option in OPTIONS.items():
        path = getattr(sources, name).path
        given = getattr(launch, name) not in {None, *MINIATURES}
        miniature = launch.base in MINIATURES and not given
        settings.append(
            Setting(name, path.name, option if given else "the miniature" if miniature else parsed.origin(name))
        )
    return settings


def _check_ood(parsed: ParsedConfig, launch: Launch) -> None:
    if launch.ood is None:
        raise UserError(
            f"{parsed.document.path}: out-of-distribution rows are needed to measure lost generality, but --ood is not "
            f"given and {parsed.tool.name} has no key for them",
            f"pass --ood FILE; `{typed('mini', 'show', '--out', 'DIR')}` writes an example. Or try the settings on "
            "the miniature: --base mini",
        )


def _read_own(spec: TrialSpec, launch: Launch, data_directory: Path, begun: Begun) -> ImportedTrial:
    begun = Begun(spec.format, spec.template_date or begun.template_date)
    if launch.base in MINIATURES:
        sources = _on_miniature(launch, data_directory, begun)
    else:
        sources = gather(
            launch.base or str(spec.base.path), launch.train or spec.train.path,
            launch.validation or spec.validation.path, launch.ood or spec.ood.path, data_directory,
            drop=launch.drop, begun=begun,
        )  # fmt: skip
    values = {name: getattr(spec, name) for name in type(spec).model_fields}
    no_settings = (*OPTIONS, "format", "name", "arm", "placement", "template_date", "pilot_steps")
    settings = {name: value for name, value in values.items() if name not in no_settings}
    return ImportedTrial(settings, spec.placement, sources, format=spec.format)

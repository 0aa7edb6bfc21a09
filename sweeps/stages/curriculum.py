"""Makes the stages of a curriculum, from stage files or from the miniature's three stages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeps.execution.experiment import Experiment
from sweeps.execution.launch_data import evals_rows, told
from sweeps.execution.options import Launch
from sweeps.planning.forecast import Forecast, forecast
from sweeps.planning.layers import LayerRule
from sweeps.planning.sources import Begun, Sources, gather
from sweeps.planning.space import Axes, expand, merged_settings
from sweeps.stages.files import DEPTHS, NEEDED, StageChain, StageFile, read_stages
from sweeps.stages.staged_study import Optimizer, Stage, StagedStudy, check_continuation
from sweeps.study import Arm, Study, as_begun
from trainables.data.duplicates import check_disjoint
from trainables.data.rows import read_rows, read_validation
from trainables.errors import UserError
from trainables.model.families import family_of
from trainables.placement import ModuleKind
from trainables.spec import EARLIER_FORMATS, TrialSpec
from trainables.typed import typed


def _examples() -> str:
    show = typed("mini", "show", "--out", "DIR")
    return f"correct it or name another; `{show}` writes an example of each file"


@dataclass(frozen=True)
class CurriculumInput:
    """The options of a curriculum; without `files` the stages are the miniature's.

    `modules` and `layers` have one value at most, which all stages have.
    """

    files: Sequence[Path] = ()
    start: Path | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = "fresh"
    modules: tuple[ModuleKind, ...] = ()
    layers: tuple[LayerRule, ...] = ()


def curriculum(study: Study, given: CurriculumInput, launch: Launch, data_directory: Path) -> StagedStudy:
    """Read and check all stages; writes only the miniature's rows, below `data_directory`.

    Raises:
        UserError: a stage is invalid; names file, line and key.
    """
    _check_rule(given.layers)
    chain = read_stages(given.files) if given.files else None
    study = as_begun(study, Experiment(launch.directory(study)).format)
    if chain and chain.start and given.start:
        raise UserError(
            f"the first stage must start from one adapter, but {chain.stages[0].where('prev_checkpoint')} names one "
            f"and --init-from {given.start} another",
            "leave one of the two out",
        )
    found = _from_files(study, chain, given, launch, data_directory) if chain else \
        _from_miniature(study, given, launch, data_directory)  # fmt: skip
    files = chain.stages if chain else ()
    specs = [spec for spec, _ in found]
    _check_leaks(specs, files)
    stages = [
        Stage(spec.model_copy(update={"earlier": tuple(one.validation for one in specs[:number])}), sources)
        for number, (spec, sources) in enumerate(found)
    ]
    start = chain.start if chain and chain.start else given.start
    staged = StagedStudy(study, tuple(stages), "same", given.optimizer, start)
    _check_adapters(staged, files)
    return staged


def _check_rule(rules: Sequence[LayerRule]) -> None:
    """Refuse layers that each stage would choose by its own rows: all stages have the same.

    Raises:
        UserError: the rule is `gradient`.
    """
    if any(rule.rule == "gradient" for rule in rules):
        raise UserError(
            "--layers must choose the same layers for all stages, which continue one adapter, but `gradient` chooses "
            "by the rows of each stage",
            "--layers last-4, first-4, every-2 or all",
        )


def _from_miniature(
    study: Study, given: CurriculumInput, launch: Launch, data_directory: Path
) -> list[tuple[TrialSpec, Sources]]:
    from trainables.mini import stages

    if launch.base is not None:
        raise UserError(
            "a base of your own needs stages of your own, but no stage file is given",
            f"{typed('curriculum', 'stage1.yaml', 'stage2.yaml')}; docs/curriculum.md has the keys",
        )
    found, begun = [], Experiment(launch.directory(study)).begun
    rows = stages.write(data_directory, 0, begun.format in EARLIER_FORMATS)
    for arm, files in zip(study.arms, rows, strict=True):
        if launch.split_holdout:
            evals_rows(launch, (None, None, None), data_directory)  # refuses: these rows have a holdout
        sources = gather(None, files.train, files.validation, files.ood, data_directory, begun=begun)
        found.append((_spec(study, arm, given, launch, sources), sources))
    return found


# -------------------------------------------------------------------- stages from files
def _from_files(
    study: Study, chain: StageChain, given: CurriculumInput, launch: Launch, data_directory: Path
) -> list[tuple[TrialSpec, Sources]]:
    base_stage = None if launch.base else _stage_with_base(chain.stages)
    base = base_stage.values["base_model"] if base_stage else launch.base
    for key in ("lr", "vision_lr"):
        without = [stage for stage in chain.stages if key not in stage.values]
        if without and len(without) < len(chain.stages):
            raise UserError(f"{without[0].where()}: `{key}` must be given in every stage or in none, but "
                            f"{without[0].name} has none", f"add `{key}` to it")  # fmt: skip
    found, begun = [], Experiment(launch.directory(study)).begun
    for number, stage in enumerate(chain.stages):
        sources = _sources((base, base_stage), stage, launch, data_directory, begun)
        arm = _arm(study, study.arms[min(number, len(study.arms) - 1)], stage, sources, given)
        with stage.errors_at():
            chosen = "eval_every" in stage.values and not {"steps", "epochs"} & given.fixed.keys()
            found.append((_spec(replace(study, chosen_evals=chosen), arm, given, launch, sources), sources))
    return found


def _stage_with_base(stages: Sequence[StageFile]) -> StageFile | None:
    named = [stage for stage in stages if "base_model" in stage.values]
    for stage in named[1:]:
        one, other = named[0].values["base_model"], stage.values["base_model"]
        if other != one:
            raise UserError(
                f"{stage.where('base_model')} must be the base of all stages, {one}, but it is {other}",
                "an adapter can only be continued on the base it was trained on",
            )
    return named[0] if named else None


def _sources(
    found: tuple[str | None, StageFile | None], stage: StageFile, launch: Launch, data_directory: Path, begun: Begun
) -> Sources:  # fmt: skip
    (base, base_stage), paths = found, {key: stage.path(key) for key in NEEDED}
    try:
        files, split = evals_rows(launch, (paths["train"], paths["validation"], paths["ood"]), data_directory)
        return told(gather(base, *files, data_directory, begun=begun), split)
    except UserError as error:
        named = (key for key, path in paths.items() if str(path) in error.message or error.message.startswith(key))
        key = next(named, None)  # an error that names no data file is about the base
        where = stage.where(key) if key else base_stage.where("base_model") if base_stage else "--base"
        raise UserError(f"{where}: {error.message}", error.hint or _examples()) from None


def _no_names(stage: StageFile) -> tuple[str, ...]:
    """Return no names of linears, as a kind of modules chooses them.

    Raises:
        UserError: the stage names some.
    """
    if "target_modules" in stage.values.get("lora", {}):
        raise UserError(
            f"{stage.where('lora', 'target_modules')} and --modules both choose linears, but only one of them may be "
            "given",
            "leave out --modules",
        )
    return ()


def _arm(study: Study, default: Arm, stage: StageFile, sources: Sources, given: CurriculumInput) -> Arm:
    own = stage.settings
    if "lr" in stage.values and "vision_lr" not in stage.values:
        rates = merged_settings(study, default, {}, sources.is_miniature)
        own["vision_learning_rate"] = own["learning_rate"] * rates["vision_learning_rate"] / rates["learning_rate"]
    own["placement"] = _placement(study, stage, sources)
    if given.modules:
        own["target_modules"] = _no_names(stage)
    settings, miniature = {**default.settings, **own}, {**default.miniature, **own}
    return replace(default, name=stage.name, settings=settings, miniature=miniature)


def _placement(study: Study, stage: StageFile, sources: Sources) -> dict[str, int]:
    """Return the depth of each tower; the default is all language layers, or the miniature's placement."""
    family, config = family_of(sources.base.path)
    layers = {tower: len(blocks) for tower, blocks in family.towers(config).items()}
    all_language = {"language": layers["language"], "vision": 0}
    default = study.miniature.get("placement", all_language) if sources.is_miniature else all_language
    placement = {**default, **stage.depths}
    for key, tower in DEPTHS.items():
        if placement[tower] > layers[tower]:
            raise UserError(
                f"{stage.where('lora', key)} must be at most {layers[tower]}, the number of {tower} layers of the "
                f"base, but got {placement[tower]}",
                f"choose between 0 and {layers[tower]}",
            )
    if not any(placement.values()):
        raise UserError(f"{stage.where('lora')} must adapt a layer, but `language_layers` and `vision_blocks` are 0",
                        "leave out `language_layers` to adapt all language layers")  # fmt: skip
    return placement


def _spec(study: Study, arm: Arm, given: CurriculumInput, launch: Launch, sources: Sources) -> TrialSpec:
    axes = Axes(fixed=given.fixed, modules=given.modules, layers=given.layers)
    spec_format = Experiment(launch.directory(study)).format
    return expand(replace(study, arms=(arm,)), axes, sources, spec_format)[-1]


# -------------------------------------------------------------------- between the stages
def _check_leaks(specs: Sequence[TrialSpec], files: Sequence[StageFile]) -> None:
    """Refuse a stage that trains on another stage's validation rows."""
    measured = {spec.validation.path: read_validation(spec.validation.path) for spec in specs}
    for number, spec in enumerate(specs):
        others = [path for path in measured if path != spec.validation.path]  # `gather` has checked its own
        rows = read_rows(spec.train.path) if others else []
        for path in others:
            with _errors_at(files, number, "train"):
                check_disjoint(rows, measured[path], path)


def _check_adapters(staged: StagedStudy, files: Sequence[StageFile]) -> None:
    """Refuse a stage that cannot start from the given adapter or from the stage before."""
    forecasts: list[Forecast] = []
    for number, stage in enumerate(staged.stages):
        with _errors_at(files, number, "lora", "target_modules"):
            forecasts += forecast([stage.spec], stage.sources.train_rows)
    if staged.start is not None:
        given = bool(files) and "prev_checkpoint" in files[0].values
        with _errors_at(files, 0, "prev_checkpoint") if given else nullcontext():
            forecast([staged.first()], staged.stages[0].sources.train_rows)
    for number, (before, after) in enumerate(itertools.pairwise(forecasts), start=1):
        with _errors_at(files, number, "prev_checkpoint"):
            check_continuation(before, after, staged.continuation)


def _errors_at(files: Sequence[StageFile], number: int, *keys: str) -> AbstractContextManager[None]:
    return files[number].errors_at(*keys) if files else nullcontext()

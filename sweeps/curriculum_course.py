"""A curriculum as a course: whose rows each stage reads, and what it must remember of the stages before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeps.course import Course, Leg, Optimizer
from sweeps.launch import Launch
from sweeps.sources import Sources, gather
from sweeps.space import Axes, expand
from sweeps.stage_files import StageChain, StageFile, read_stages
from sweeps.study import Arm, Study
from trainables.data import check_disjoint, read_rows
from trainables.errors import UserError
from trainables.spec import TrialSpec
from trainables.towers import family_of


@dataclass(frozen=True)
class Wish:
    """What a command line asks of a curriculum; without files the miniature has stages of its own."""

    files: Sequence[Path] = ()
    start: Path | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = "fresh"


def curriculum(study: Study, wish: Wish, launch: Launch, data_directory: Path) -> Course:
    """Read and check everything a curriculum needs; only the miniature's rows are written, below `data_directory`.

    Raises:
        UserError: naming file, line and key of what is wrong.
    """
    chain = read_stages(wish.files) if wish.files else None
    if chain and chain.start and wish.start:
        raise UserError(
            f"the first stage must go on from one adapter, but {chain.stages[0].where('prev_checkpoint')} names one "
            f"and --init-from {wish.start} another"
        )
    stages = _from_files(study, chain, wish, launch, data_directory) if chain else \
        _of_the_miniature(study, wish, launch, data_directory)  # fmt: skip
    legs: list[Leg] = []
    for spec, sources in stages:
        _check_unseen(spec, [leg.spec for leg in legs])
        legs.append(Leg(spec.model_copy(update={"earlier": tuple(leg.spec.validation for leg in legs)}), sources))
    start = chain.start if chain and chain.start else wish.start
    return Course(study, tuple(legs), "same", wish.optimizer, start)


def _of_the_miniature(
    study: Study, wish: Wish, launch: Launch, data_directory: Path
) -> list[tuple[TrialSpec, Sources]]:
    from trainables.mini import stages

    if launch.base is not None:
        raise UserError(
            "a base of your own needs stages of your own, but no stage file is given",
            "python -m sweeps.curriculum stage1.yaml stage2.yaml ...; docs/curriculum.md has the keys",
        )
    found = []
    for arm, files in zip(study.arms, stages.write(data_directory, 0), strict=True):
        sources = gather(None, files.train, files.validation, files.ood, data_directory)
        found.append((_spec(study, arm, wish, sources), sources))
    return found


def _from_files(
    study: Study, chain: StageChain, wish: Wish, launch: Launch, data_directory: Path
) -> list[tuple[TrialSpec, Sources]]:
    base = launch.base or _base_of(chain.stages)
    for key in ("lr", "vision_lr"):
        without = [stage for stage in chain.stages if key not in stage.values]
        if without and len(without) < len(chain.stages):
            raise UserError(f"{without[0].where()}: `{key}` must be given in every stage or in none, but "
                            f"{without[0].name} has none")  # fmt: skip
    found = []
    for number, stage in enumerate(chain.stages):
        sources = gather(base, stage.path("train"), stage.path("validation"), stage.path("ood"), data_directory)
        arm = _arm(study.arms[min(number, len(study.arms) - 1)], stage, sources)
        found.append((_spec(study, arm, wish, sources), sources))
    return found


def _base_of(stages: Sequence[StageFile]) -> str | None:
    named = {stage.values["base_model"]: stage for stage in stages if "base_model" in stage.values}
    if len(named) > 1:
        (one, _), (other, stage) = list(named.items())[:2]
        raise UserError(
            f"{stage.where('base_model')} must be the base of every stage, {one}, but it is {other}",
            "an adapter can be continued on its own base only",
        )
    return next(iter(named), None)


def _arm(default: Arm, stage: StageFile, sources: Sources) -> Arm:
    own = stage.settings
    if "lr" in stage.values and "vision_lr" not in stage.values:
        rates = default.miniature if sources.is_miniature else default.settings
        own["vision_learning_rate"] = own["learning_rate"] * rates["vision_learning_rate"] / rates["learning_rate"]
    if "placement" not in own and not sources.is_miniature:
        family, config = family_of(sources.base.path)
        own["placement"] = {"language": len(family.towers(config)["language"]), "vision": 0}
    settings, miniature = {**default.settings, **own}, {**default.miniature, **own}
    return replace(default, name=stage.name, settings=settings, miniature=miniature)


def _spec(study: Study, arm: Arm, wish: Wish, sources: Sources) -> TrialSpec:
    return expand(replace(study, arms=(arm,)), Axes(fixed=wish.fixed), sources)[-1]


def _check_unseen(spec: TrialSpec, earlier: Sequence[TrialSpec]) -> None:
    """Refuse a stage that trains on what an earlier one is measured by: nothing would look forgotten."""
    rows = read_rows(spec.train.path) if earlier else []
    for one in earlier:
        check_disjoint(rows, read_rows(one.validation.path), one.validation.path)

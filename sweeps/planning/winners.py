"""Reads the winners of an earlier study as arms, from the `winners.json` of `footprint pareto`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.study import Arm, Study
from trainables.errors import UserError
from trainables.io.files import FileDamaged, read_json
from trainables.placement import Placement
from trainables.typed import typed

FRONTIER, FILE = Path("frontier"), "winners.json"


def with_winners(study: Study, winners: Path | None, only: tuple[str, ...]) -> Study:
    """Return the study with the placements of `winners` as its arms; `study.winners_of` names the default file.

    A declared arm with one language layer is kept when a winner has the same vision blocks and more language layers.
    The study is unchanged when arms are chosen by name.

    Raises:
        UserError: both are given, or the file is missing, invalid, or names no placement.
    """
    if winners and only:
        raise UserError("--winners and --only both choose arms, but only one of them may be given")
    if winners is None:
        if only or not study.winners_of:
            return study
        winners = FRONTIER / study.winners_of / FILE
        if not winners.is_file():
            raise UserError(
                f"{study.name} takes its arms from the winners of {study.winners_of}, but {winners} does not exist",
                f"run `{typed('pareto', '--experiment', study.winners_of)}` here, pass --winners FILE, "
                f"or name arms: --only {','.join(arm.name for arm in study.arms if arm.language > 1)}",
            )
    found = _arms_in(winners)
    visions = {arm.vision for arm in found if arm.language > 1}
    least = [arm for arm in study.arms if arm.language == 1 and arm.vision in visions]
    placed = set(map(placement_of, found))
    own = [arm for arm in least if placement_of(arm) not in placed]
    baselines = [arm for arm in study.arms if not arm.language and not arm.vision]
    return replace(study, arms=(*baselines, *found, *own), recommended=())


def _arms_in(path: Path) -> list[Arm]:
    if not path.is_file():
        command = typed("pareto", "--experiment", "NAME")
        raise UserError(f"--winners must be a file that `{command}` wrote, but {path} does not exist")
    try:
        kept = read_json(path)
    except FileDamaged as error:
        raise UserError(error.message, f"run `{typed('pareto', '--experiment', 'NAME')}` to write it again") from None
    listed = kept.get("winners") if isinstance(kept, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{path}: `winners` must name a placement, but it is {listed!r}",
                        "the frontier of the earlier study is empty, so it has no winners")  # fmt: skip
    arms: dict[Placement, Arm] = {}
    for number, one in enumerate(listed):
        arm = _arm(one, f"{path}: `winners[{number}]`")
        arms.setdefault(placement_of(arm), arm)
    return _told_apart(list(arms.values()))


def placement_of(arm: Arm) -> Placement:
    """Return the placement that an arm declares, before a rule chooses among the layers."""
    counts = {"language": arm.language, "vision": arm.vision}
    return Placement.model_validate(arm.settings.get("placement", counts))


def _told_apart(arms: list[Arm]) -> list[Arm]:
    """Return the arms with unique names: an arm whose kind of modules was varied won in several placements."""
    names = [arm.name for arm in arms]
    return [
        arm if names.count(arm.name) == 1 else replace(arm, name=f"{arm.name}_{number}")
        for number, arm in enumerate(arms, start=1)
    ]


def _arm(values: Any, where: str) -> Arm:
    name, *depths = (values.get(key) if isinstance(values, Mapping) else None for key in ("name", "language", "vision"))
    counts = [depth for depth in depths if isinstance(depth, int) and not isinstance(depth, bool) and depth >= 0]
    if not isinstance(name, str) or len(counts) != len(depths) or not any(counts):
        raise UserError(f"{where} must have a `name` and counts of layers in `language` and `vision`, but got {values}")
    more = {key: values[key] for key in ("language_indices", "vision_indices", "modules") if key in values}
    placement = {"language": counts[0], "vision": counts[1], **more}
    try:
        Placement.model_validate(placement)
    except ValidationError as error:
        raise UserError(f"{where} must be a placement, but {error.errors()[0]['msg']}") from None
    return Arm(name, language=counts[0], vision=counts[1], settings={"placement": placement} if more else {})

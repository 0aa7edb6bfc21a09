"""Reads the winners of an earlier study as arms, from the `winners.json` of `analysis pareto`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.study import Arm, Study
from trainables.errors import UserError
from trainables.io.files import FileDamaged, read_json

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
                f"run `analysis pareto --experiment {study.winners_of}` here, pass --winners FILE, "
                f"or name arms: --only {','.join(arm.name for arm in study.arms if arm.language > 1)}",
            )
    found = _arms_in(winners)
    visions = {arm.vision for arm in found if arm.language > 1}
    least = [arm for arm in study.arms if arm.language == 1 and arm.vision in visions]
    placed = {(arm.language, arm.vision) for arm in found}
    own = [arm for arm in least if (arm.language, arm.vision) not in placed]
    baselines = [arm for arm in study.arms if not arm.language and not arm.vision]
    return replace(study, arms=(*baselines, *found, *own), recommended=())


def _arms_in(path: Path) -> list[Arm]:
    if not path.is_file():
        raise UserError(f"--winners must be a file that `analysis pareto` wrote, but {path} does not exist")
    try:
        kept = read_json(path)
    except FileDamaged as error:
        raise UserError(error.message, "run `analysis pareto` to write it again") from None
    listed = kept.get("winners") if isinstance(kept, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{path}: `winners` must name a placement, but it is {listed!r}",
                        "the frontier of the earlier study is empty, so it has no winners")  # fmt: skip
    arms: dict[tuple[int, int], Arm] = {}
    for number, one in enumerate(listed):
        arm = _arm(one, f"{path}: `winners[{number}]`")
        arms.setdefault((arm.language, arm.vision), arm)
    return list(arms.values())


def _arm(values: Any, where: str) -> Arm:
    name, *depths = (values.get(key) if isinstance(values, Mapping) else None for key in ("name", "language", "vision"))
    counts = [depth for depth in depths if isinstance(depth, int) and not isinstance(depth, bool) and depth >= 0]
    if not isinstance(name, str) or len(counts) != len(depths) or not any(counts):
        raise UserError(f"{where} must have a `name` and counts of layers in `language` and `vision`, but got {values}")
    return Arm(name, language=counts[0], vision=counts[1])

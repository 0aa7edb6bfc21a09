"""The stages of `sweeps.unfreeze`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.study import Study
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.planning.space import Axes
    from sweeps.stages.sequence import Course


def unfreezing(study: Study, axes: Axes, launch: Launch, data: Path) -> Course:
    """Make a course of a study's arms, on the same rows all of them; the first goes on from `axes.init_from`.

    Raises:
        UserError: anything about base, data or settings that would make it fail later.
    """
    from sweeps.planning.sources import gather
    from sweeps.planning.space import expand
    from sweeps.stages.sequence import Course, Leg

    if "steps" in axes.fixed and "epochs" in axes.fixed:
        raise UserError("--steps and --epochs both set the budget, but only one of them may be given")
    sources = gather(launch.base, launch.train, launch.validation, launch.ood, data, study.world)
    specs = [spec for spec in expand(study, axes, sources) if not spec.placement.is_baseline]
    if not sources.sees:
        raise UserError(f"{study.name} must have a vision tower to unfreeze, but {sources.base.path} has none")
    return Course(study, tuple(Leg(spec, sources) for spec in specs), "extended", start=axes.init_from)

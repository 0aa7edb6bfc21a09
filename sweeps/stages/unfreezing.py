"""Makes the stages of a progressive unfreezing: each arm of a study extends the one before."""

from __future__ import annotations

from pathlib import Path

from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.planning.sources import gather
from sweeps.planning.space import Axes, expand
from sweeps.stages.staged_study import Stage, StagedStudy
from sweeps.study import Study, as_begun
from trainables.errors import UserError


def unfreezing(study: Study, axes: Axes, launch: Launch, data_directory: Path) -> StagedStudy:
    """Return the arms of a study as stages on the same rows; the first starts from `axes.init_from` if given.

    Raises:
        UserError: base, data or settings are invalid.
    """
    files, begun = (launch.train, launch.validation, launch.ood), Experiment(launch.directory(study)).begun
    sources = gather(launch.base, *files, data_directory, study.world, begun=begun)
    specs = expand(as_begun(study, begun.format), axes, sources, begun.format)
    if not sources.sees:
        raise UserError(f"{study.name} must have a vision tower to unfreeze, but {sources.base.path} has none")
    stages = tuple(Stage(spec, sources) for spec in specs if not spec.placement.is_baseline)
    return StagedStudy(study, stages, "extended", start=axes.init_from)

"""Makes the stages of a progressive unfreezing: each arm of a study extends the one before."""

from __future__ import annotations

from pathlib import Path

from sweeps.execution.experiment import Experiment
from sweeps.execution.launch_data import gather_for
from sweeps.execution.measured_gradients import MeasuredGradients
from sweeps.execution.options import Launch
from sweeps.planning.layers import LayerRule
from sweeps.planning.space import Axes, expand
from sweeps.stages.staged_study import Stage, StagedStudy
from sweeps.study import Study, as_begun
from trainables.errors import UserError


def unfreezing(study: Study, axes: Axes, launch: Launch, data_directory: Path) -> StagedStudy:
    """Return the arms of a study as stages on the same rows; the first starts from `axes.init_from` if given.

    Raises:
        UserError: base, data or settings are invalid, or a rule chooses the same layers for all stages.
    """
    for rule in axes.layers:
        _check_nests(study, rule)
    begun = Experiment(launch.directory(study)).begun
    sources = gather_for(study, launch, data_directory, begun)
    measured = MeasuredGradients.of(launch.directory(study), launch.console)
    specs = expand(as_begun(study, begun.format), axes, sources, begun.format, measured)
    if not sources.sees:
        raise UserError(f"{study.name} must have a vision tower to unfreeze, but {sources.base.path} has none")
    stages = tuple(Stage(spec, sources) for spec in specs if not spec.placement.is_baseline)
    gradients = tuple(measured.found.values())
    return StagedStudy(study, stages, "extended", start=axes.init_from, gradients=gradients)


def _check_nests(study: Study, rule: LayerRule) -> None:
    """Refuse a rule that does not take as many layers as each stage has, so that no stage adds any.

    Raises:
        UserError: naming the rule.
    """
    if rule.rule in ("every", "all") or rule.number:
        raise UserError(
            f"--layers must let each stage of {study.name} add layers to the one before, but {rule} chooses the same "
            "for all stages",
            "--layers last, first or gradient takes as many as the stage has",
        )

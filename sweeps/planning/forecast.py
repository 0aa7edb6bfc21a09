"""Forecasts of each trial: trained parameters, adapter size, coverage of the data, number of evals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.checkpoints.compatibility import base_match, read_parent
from trainables.errors import UserError
from trainables.model.families import Blocks, TowerName, family_of
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.schedule import planned_evals, rate_factor, steps_at_rate
from trainables.spec import TrialSpec

Towers = Mapping[TowerName, Blocks]


@dataclass(frozen=True)
class Forecast:
    """The planned numbers of one trial; `coverage_epochs` = task rows in all steps / training rows.

    `parent_base` names how the base of a continued adapter was identified. `backward_share` is the share of the
    language layers through which gradients flow.
    """

    spec: TrialSpec
    placement: ResolvedPlacement
    coverage_epochs: float
    evals: int
    parent_base: str | None = None
    backward_share: float = 1.0

    @property
    def language_parameters(self) -> int:
        """Trained parameters in the language tower."""
        return self.placement.parameters("language", self.spec.rank)

    @property
    def vision_parameters(self) -> int:
        """Trained parameters in the vision tower."""
        return self.placement.parameters("vision", self.spec.rank)


def forecast(specs: list[TrialSpec], train_rows: int) -> list[Forecast]:
    """Resolve every placement against the configuration of its base; reads no weights and imports no torch.

    Raises:
        UserError: a placement is deeper than its tower, or an adapter cannot be continued.
    """
    towers = {path: _towers(path) for path in {spec.base.path for spec in specs}}
    _check_depths(specs, towers)
    placements: dict[tuple[object, ...], ResolvedPlacement] = {}  # trials that differ in other settings share one
    found = []
    for spec in specs:
        key = (spec.base.path, spec.placement, spec.target_modules)
        if key not in placements:
            placements[key] = resolve(spec.placement, towers[spec.base.path], spec.target_modules)
        placement = placements[key]
        trains = not spec.placement.is_baseline
        parent = read_parent(spec, placement) if spec.init_from else None
        found.append(
            Forecast(
                spec=spec,
                placement=placement,
                coverage_epochs=_task_rows(spec) / train_rows if trains else 0.0,
                evals=_evals(spec) if trains else 1,
                parent_base=base_match(parent, spec) if parent else None,
                backward_share=_backward_share(spec, towers[spec.base.path]),
            )
        )
    return found


def _task_rows(spec: TrialSpec) -> float:
    return spec.rows_before(spec.last_step) * (1 - spec.replay_ratio)


def _backward_share(spec: TrialSpec, towers: Towers) -> float:
    if spec.placement.vision:  # its gradients flow through every language layer
        return 1.0
    layers = len(towers["language"])
    return spec.placement.depth("language", layers) / layers


def _evals(spec: TrialSpec) -> int:
    return planned_evals(spec.last_step, spec.eval_every_steps, spec.init_from is not None)


def _towers(base: Path) -> Towers:
    family, config = family_of(base)
    return family.towers(config)


def _check_depths(specs: list[TrialSpec], towers: Mapping[Path, Towers]) -> None:
    too_deep = [spec for spec in specs if _is_too_deep(spec, towers[spec.base.path])]
    if not too_deep:
        return
    valid = [spec for spec in specs if not _is_too_deep(spec, towers[spec.base.path])]
    arms = dict.fromkeys(spec.arm for spec in valid if not spec.placement.is_baseline)
    if arms:
        layers = {tower: len(blocks) for tower, blocks in towers[too_deep[0].base.path].items()}
        raise UserError(
            f"a placement must not be deeper than its base, but {too_deep[0].name} needs {too_deep[0].placement} and "
            f"the base has {layers['language']} language layers and {layers['vision'] or 'no'} vision blocks; "
            f"{len(too_deep)} of {len(specs)} trials are too deep",
            f"--only {','.join(arms)} fits",
        )


def _is_too_deep(spec: TrialSpec, towers: Towers) -> bool:
    return any(getattr(spec.placement, tower) > len(blocks) for tower, blocks in towers.items())


def usable_share(spec: TrialSpec, usable_rate_ratio: float) -> float:
    """Return the fraction of the steps whose learning rate is at least `usable_rate_ratio` of the peak."""
    shape = spec.steps, spec.warmup_ratio, spec.min_rate_ratio, spec.schedule
    return steps_at_rate(usable_rate_ratio, *shape) / spec.steps


def last_rate(spec: TrialSpec) -> float:
    """Return the language learning rate of the last step."""
    factor = rate_factor(spec.steps - 1, spec.steps, spec.warmup_ratio, spec.min_rate_ratio, spec.schedule)
    return spec.learning_rate * factor


def table(forecasts: list[Forecast]) -> list[tuple[str, ...]]:
    """Return the table of trials as rows of text, the header first."""
    header = ("trial", "id", "place", "rank", "alpha", "quant", "language", "vision", "adapter", "coverage", "evals")
    return [
        header,
        *(
            (
                one.spec.name,
                one.spec.trial_id[:8],
                str(one.spec.placement),
                "-" if one.spec.placement.is_baseline else str(one.spec.rank),
                "-" if one.spec.placement.is_baseline else f"{one.spec.alpha:g}",
                one.spec.quantization,
                f"{one.language_parameters:,}",
                f"{one.vision_parameters:,}",
                f"{one.placement.adapter_megabytes(one.spec.rank):.2f} MB",
                f"{one.coverage_epochs:.0%}",
                str(one.evals),
            )
            for one in forecasts
        ),
    ]

"""Forecasts of each trial: trained parameters, adapter size, coverage of the data, number of evals."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.checkpoints.compatibility import base_match, read_parent
from trainables.errors import UserError
from trainables.model.families import Blocks, TowerName, family_of
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.schedule import planned_evals, rate_factor, steps_at_rate
from trainables.spec import TrialSpec


@dataclass(frozen=True)
class Forecast:
    """The planned numbers of one trial; `coverage_epochs` = steps x rows per step / training rows.

    `parent_base` names how the base of a continued adapter was identified.
    """

    spec: TrialSpec
    placement: ResolvedPlacement
    coverage_epochs: float
    evals: int
    parent_base: str | None = None

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
    _check_depths(specs)
    found = []
    for spec in specs:
        placement = resolve(spec.placement, _towers(spec), spec.target_modules)
        trains = not spec.placement.is_baseline
        parent = read_parent(spec, placement) if spec.init_from else None
        found.append(
            Forecast(
                spec=spec,
                placement=placement,
                coverage_epochs=spec.rows_before(spec.steps) / train_rows if trains else 0.0,
                evals=_evals(spec) if trains else 1,
                parent_base=base_match(parent, spec) if parent else None,
            )
        )
    return found


def _evals(spec: TrialSpec) -> int:
    return planned_evals(spec.steps, spec.eval_every_steps, spec.init_from is not None)


def _towers(spec: TrialSpec) -> dict[TowerName, Blocks]:
    family, config = family_of(spec.base.path)
    return family.towers(config)


def _check_depths(specs: list[TrialSpec]) -> None:
    towers = {spec.trial_id: {tower: len(blocks) for tower, blocks in _towers(spec).items()} for spec in specs}
    valid = [spec for spec in specs if all(getattr(spec.placement, t) <= n for t, n in towers[spec.trial_id].items())]
    too_deep = [spec for spec in specs if spec not in valid]
    arms = dict.fromkeys(spec.arm for spec in valid if not spec.placement.is_baseline)
    if too_deep and arms:
        layers = towers[too_deep[0].trial_id]
        raise UserError(
            f"a placement must not be deeper than its base, but {too_deep[0].name} needs {too_deep[0].placement} and "
            f"the base has {layers['language']} language layers and {layers['vision'] or 'no'} vision blocks; "
            f"{len(too_deep)} of {len(specs)} trials are too deep",
            f"--only {','.join(arms)} fits",
        )


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

"""Forecasts what an eval costs, in steps of its trial: a function of rows and tokens alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.planning.data_quality import FileQuality
from sweeps.planning.forecast import Forecast
from trainables.probes.crops import JITTERS, MAX_ROWS
from trainables.probes.reserve import CORE_ROWS, RESERVED_KIND
from trainables.spec import RESERVE_FORMAT, TrialSpec

# an eval with drafts costs this many passes over its rows (docs/benchmark.md): the rows themselves, and the answers
# that no draft foretells, which are some of the validation rows and one in ten of the others
PASSES = 1.4


@dataclass(frozen=True)
class EvalRows:
    """Tokens of the rows of one eval: of validation, of the train slice, of crops, and outside the task."""

    validation: float
    train_slice: float
    crops: float
    outside: float

    @property
    def tokens(self) -> float:
        """Return the sum."""
        return self.validation + self.train_slice + self.crops + self.outside


def eval_rows(
    data: Mapping[str, FileQuality], ood_rows: Sequence[tuple[str, int]], spec: TrialSpec, sees: bool
) -> EvalRows:
    """Return the tokens of one eval; rows of the reserve, which only guards ask, are left out."""
    train, validation, ood = data["train"], data["validation"], data["ood"]
    kinds = dict(ood_rows)
    reserve = max(0, kinds.get(RESERVED_KIND, 0) - CORE_ROWS) if spec.format >= RESERVE_FORMAT else 0
    asked = ood.rows - reserve
    answer = validation.supervised_share * _mean(validation)  # of rows outside the task only the prompts are scanned
    return EvalRows(
        validation.tokens,
        min(spec.train_slice_rows, train.rows) * _mean(train),
        len(JITTERS) * min(MAX_ROWS, validation.rows) * _mean(validation) if sees and validation.pictures else 0.0,
        asked * (_mean(ood) + answer),
    )


def eval_steps(rows: EvalRows, train: FileQuality, forecast: Forecast) -> float:
    """Return how many optimizer steps of a trial alone take as long as one eval.

    A step runs its rows forward, and backward through the layers from the lowest adapter on, at the same cost a layer.
    """
    step = forecast.spec.effective_rows * _mean(train) * (1.0 + forecast.backward_share)
    return PASSES * rows.tokens / step if step else 0.0


def eval_cost_text(
    forecasts: Sequence[Forecast], data: Mapping[str, FileQuality], ood_rows: Sequence[tuple[str, int]], sees: bool
) -> str:
    """Return the forecast in words, for the trials that train; empty if none does."""
    trained = [one for one in forecasts if not one.spec.placement.is_baseline]
    if not trained or not data["train"].tokens:
        return ""
    rows = eval_rows(data, ood_rows, trained[0].spec, sees)
    steps = sorted(eval_steps(rows, data["train"], one) for one in trained)
    shown = f"{steps[0]:.2g}" if f"{steps[0]:.2g}" == f"{steps[-1]:.2g}" else f"{steps[0]:.2g} to {steps[-1]:.2g}"
    return (
        f"An eval costs about {shown} steps of a trial alone: {PASSES:g} passes over {rows.tokens:,.0f} tokens "
        f"({rows.validation:,.0f} of validation, {rows.train_slice:,.0f} of the train slice, {rows.crops:,.0f} of "
        f"crops, {rows.outside:,.0f} outside the task), if drafts foretell most answers."
    )


def _mean(quality: FileQuality) -> float:
    return quality.tokens / max(1, quality.rows - quality.unencodable.count)

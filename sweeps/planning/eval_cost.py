"""Forecasts what an eval costs, in steps of its trial: a function of rows and tokens alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.planning.data_quality import FileQuality
from sweeps.planning.forecast import Forecast
from trainables.probes.crops import JITTERS, MAX_ROWS
from trainables.probes.reserve import CORE_ROWS, RESERVED_KIND
from trainables.probes.shift import KINDS, SHIFT, shift_metrics
from trainables.spec import RESERVE_FORMAT, ProbeRequest, TrialSpec

# Passes over the rows of an eval that were measured on two bases (docs/evals.md), the fewest and the most: with drafts,
# and where every token of an answer is decoded.
PASSES_WITH_DRAFTS, PASSES_DECODED = (1.3, 2.3), (1.4, 2.4)

SuiteTokens = Mapping[ProbeRequest, int]  # that an eval reads and writes for tasks of a suite, by task
NO_SUITES: SuiteTokens = {}


@dataclass(frozen=True)
class EvalRows:
    """Tokens of the rows of one eval: of validation, of the train slice, of crops, and outside the task.

    `shift` and `suites` are those that probes beside the study's own read and write, each counted once a pass.
    """

    validation: float
    train_slice: float
    crops: float
    outside: float
    shift: float = 0.0
    suites: float = 0.0

    @property
    def tokens(self) -> float:
        """Return the sum over the rows of the study's own probes."""
        return self.validation + self.train_slice + self.crops + self.outside

    def computed(self, passes: float) -> float:
        """Return the tokens that an eval computes when the study's own probes take so many passes."""
        return passes * self.tokens + self.shift + self.suites


def eval_rows(
    data: Mapping[str, FileQuality], ood_rows: Sequence[tuple[str, int]], spec: TrialSpec, sees: bool,
    suites: SuiteTokens = NO_SUITES,
) -> EvalRows:  # fmt: skip
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
        _shift_passes(spec, sees) * (_of_kinds(kinds, KINDS) - reserve) * (_mean(ood) + answer),
        sum(suites.get(one, 0) for one in spec.probes),
    )


def _shift_passes(spec: TrialSpec, sees: bool) -> int:
    """Return over how often an eval passes the general rows for the shift: once, and once without each tower's LoRA."""
    return len(shift_metrics(sees)) if any(one.suite == SHIFT for one in spec.probes) else 0


def _of_kinds(rows: Mapping[str, int], kinds: Sequence[str]) -> int:
    return sum(count for kind, count in rows.items() if kind in kinds)


def passes_of(spec: TrialSpec) -> tuple[float, float]:
    """Return the fewest and the most passes that an eval took; in bfloat16 and int8 drafts are not used."""
    return PASSES_DECODED if spec.compute_dtype == "bfloat16" or spec.quantization == "int8" else PASSES_WITH_DRAFTS


def eval_steps(rows: EvalRows, train: FileQuality, forecast: Forecast, passes: float) -> float:
    """Return how many optimizer steps of a trial alone take as long as an eval of `passes` passes over its rows.

    A step runs its rows forward, and backward through the layers from the lowest adapter on, at the same cost a layer.
    """
    step = forecast.spec.effective_rows * _mean(train) * (1.0 + forecast.backward_share)
    return rows.computed(passes) / step if step else 0.0


def eval_cost_text(
    forecasts: Sequence[Forecast], data: Mapping[str, FileQuality], ood_rows: Sequence[tuple[str, int]], sees: bool,
    suites: SuiteTokens = NO_SUITES,
) -> str:  # fmt: skip
    """Return the forecast in words, for the trials that train; empty if none does."""
    trained = [one for one in forecasts if not one.spec.placement.is_baseline]
    if not trained or not data["train"].tokens:
        return ""
    rows = eval_rows(data, ood_rows, trained[0].spec, sees, suites)
    passes = sorted(one for trial in trained for one in passes_of(trial.spec))
    steps = [eval_steps(rows, data["train"], trial, one) for trial in trained for one in passes_of(trial.spec)]
    return (
        f"An eval costs some {min(steps):.2g} to {max(steps):.2g} steps of a trial alone: {passes[0]:g} to "
        f"{passes[-1]:g} passes over {rows.tokens:,.0f} tokens ({rows.validation:,.0f} of validation, "
        f"{rows.train_slice:,.0f} of the train slice, {rows.crops:,.0f} of crops, {rows.outside:,.0f} outside the "
        f"task){_further(rows)}, by how many answers drafts foretell; fewer where frozen layers are kept."
    )


def _further(rows: EvalRows) -> str:
    """Return what the probes of --probes add, in words; empty without any."""
    named = (("the shift", rows.shift), ("tasks of lm-eval (answers at their longest)", rows.suites))
    return "".join(f", and once {tokens:,.0f} tokens for {name}" for name, tokens in named if tokens)


def _mean(quality: FileQuality) -> float:
    return quality.tokens / max(1, quality.rows - quality.unencodable.count)

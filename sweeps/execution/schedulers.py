"""Ray Tune's schedulers as options, checked before a launch.

Ray ignores unknown arguments and unreported metrics, and then stops no trial. Therefore option names, metrics, and
whether the scheduler can stop a trial at all are checked here. Schedulers that pause trials (HyperBand, PBT) are not
supported: a paused trial blocks its cohort.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, ValidationError, field_validator

from trainables.errors import UserError, items, nearest
from trainables.metrics import metric
from trainables.probes import PROBES
from trainables.record import Measurement
from trainables.spec import Frozen, PositiveInt, TrialSpec
from trainables.verdict import Verdict

TIME_ATTRIBUTE = "step"  # this name and the prefix are those of `trainables.workers.protocol`
METRIC_PREFIX = "eval/"
CAUSE = "scheduler"


class Asha(Frozen):
    """Asynchronous successive halving (arXiv:1810.05934).

    A trial ends when its eval is not among the best 1/`reduction_factor` at a rung. Rungs are at `grace_period`
    optimizer steps, times powers of `reduction_factor`.
    """

    name: ClassVar[str] = "asha"
    metric: str = "eval_loss"
    grace_period: PositiveInt = 1
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0

    @property
    def fewest_trials(self) -> int:
        """Return how many trials it takes before one can be stopped."""
        return 2

    @field_validator("metric")
    @classmethod
    def _measured(cls, name: str) -> str:
        return _measured(name)


class Median(Frozen):
    """The median stopping rule (Google Vizier): a trial ends when its best eval is worse than the median trial.

    The median is that of the other trials' running means. The rule applies from `grace_period` optimizer steps, once
    `min_samples_required` other trials have reached the step. A trial is judged when it reports, so in a cohort, whose
    trials report an eval within moments, the last to arrive meets the most others.
    """

    name: ClassVar[str] = "median"
    metric: str = "eval_loss"
    grace_period: PositiveInt = 1
    min_samples_required: PositiveInt = 3

    @property
    def fewest_trials(self) -> int:
        """Return how many trials it takes before one can be stopped."""
        return self.min_samples_required + 1

    @field_validator("metric")
    @classmethod
    def _measured(cls, name: str) -> str:
        return _measured(name)


Scheduler = Asha | Median
SCHEDULERS: dict[str, type[Asha] | type[Median]] = {kind.name: kind for kind in (Asha, Median)}


def parse_scheduler(name: str, options: str) -> Scheduler | None:
    """Return the scheduler of `--scheduler NAME --scheduler-options KEY=VALUE,...`, None without a name.

    Raises:
        UserError: the name or a key is unknown (with the nearest known one) or repeated, or a value is out of range.
    """
    if not name:
        if options:
            raise UserError(f"--scheduler-options need a --scheduler, but got only `{options}`", _known())
        return None
    if name not in SCHEDULERS:
        raise UserError(f"--scheduler must be one of {', '.join(SCHEDULERS)}, but got `{name}`", _known(name))
    kind = SCHEDULERS[name]
    values = _values(options)
    for key in values:
        if key not in kind.model_fields:
            raise UserError(f"`{key}` is not an option of scheduler {name}", nearest(key, kind.model_fields))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        raise UserError(
            f"--scheduler-options: `{key}`: {problem['msg'].removeprefix('Value error, ').lower()}, "
            f"but got `{problem['input']}`",
            f"the default is {kind.model_fields[key].default}",
        ) from None


def check_scheduler(scheduler: Scheduler, specs: Sequence[TrialSpec], reported: Collection[str]) -> None:
    """Refuse a scheduler that could never stop any of these trials; `reported` are the metrics of their evals.

    Raises:
        UserError: its metric is not reported, there are too few trials, or the first eval it looks at is the last.
    """
    if scheduler.metric not in reported:
        raise UserError(
            f"the metric of scheduler {scheduler.name} must be measured, but evals on this data have no "
            f"`{scheduler.metric}`",
            nearest(scheduler.metric, reported),
        )
    arms = [spec for spec in specs if not spec.placement.is_baseline]
    if len(arms) < scheduler.fewest_trials:
        raise UserError(
            f"scheduler {scheduler.name} compares trials and needs {scheduler.fewest_trials} or more, but got "
            f"{len(arms)}",
            "leave out --scheduler, or run more trials at once",
        )
    if not any(_first_decision(scheduler, spec) < spec.steps for spec in arms):
        spec = arms[0]
        raise UserError(
            f"scheduler {scheduler.name} must decide before the last eval, but with grace_period="
            f"{scheduler.grace_period} it first decides at step {_first_decision(scheduler, spec)} of {spec.steps}",
            f"lower grace_period, or the {spec.eval_every_steps} steps between evals (--eval-every)",
        )


def stopped_by(scheduler: Scheduler, evals: Sequence[Measurement]) -> Verdict:
    """Return the verdict on a trial that the scheduler stopped after its newest eval."""
    last = evals[-1]
    return Verdict(
        kind="pruned",
        step=last.step,
        cause=CAUSE,
        reason=f"{scheduler.name} stopped it: {scheduler.metric} {last.metrics[scheduler.metric]:.4g} at step "
        f"{last.step} fell behind the other trials",
    )


def _first_decision(scheduler: Scheduler, spec: TrialSpec) -> int:
    evals = -(-scheduler.grace_period // spec.eval_every_steps)
    return min(evals * spec.eval_every_steps, spec.steps)


def _measured(name: str) -> str:
    measured = [one.name for probe in PROBES for one in probe.metrics]
    if name not in measured:
        raise UserError(f"a scheduler's metric must be one that every eval measures, but got `{name}`",
                        nearest(name, measured))  # fmt: skip
    return metric(name).name


def _values(options: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in items(options, "--scheduler-options", "metric=eval_loss,grace_period=30"):
        key, separator, value = (part.strip() for part in word.partition("="))
        if not separator:
            raise UserError(
                f"--scheduler-options must be comma-separated KEY=VALUE, but got `{word}`",
                "for example metric=eval_loss,grace_period=30",
            )
        if key in values:
            raise UserError(
                f"--scheduler-options: `{key}` must be given once, but it is repeated in `{options}`",
                f"leave out {key}={values[key]} or {word}",
            )
        values[key] = value
    return values


def _known(name: str = "") -> str:
    found = nearest(name, SCHEDULERS)
    return found if found.startswith("did you mean") else f"known: {', '.join(SCHEDULERS)}"

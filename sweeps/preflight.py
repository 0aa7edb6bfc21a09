"""What is wrong with a launch before anything is spent: each finding refuses it or warns, in numbers.

All are pure functions of the forecasts, the guards and the scanned data. Source of the thresholds: brief 002, whose
run saw 8.9 % of its data and ended at 5e-10 of a rate of 5e-5; and the failures F08, F10, F11, F30, F32 and F34.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sweeps.plan import Forecast, last_rate, usable_share
from sweeps.quality import (
    FileQuality,
    Rows,
    longer_than,
    quality_of,
    with_pictures_of,
    with_questions_of,
    without_labels,
)
from trainables.continuation import UNKNOWN_BASE
from trainables.errors import UserError
from trainables.guards import Ceiling, Fall, Floor, Guard
from trainables.scan import Scan
from trainables.schedule import warmup_steps
from trainables.spec import TrialSpec

Level = Literal["refuse", "warn"]


@dataclass(frozen=True)
class Limits:
    """The thresholds; a share is a fraction of the rows, or of the steps."""

    refuse_below_coverage_epochs: float = 0.10
    warn_below_coverage_epochs: float = 0.90
    warn_above_coverage_epochs: float = 10.0
    warn_below_effective_rows: int = 16
    usable_rate_ratio: float = 0.10
    refuse_below_usable_share: float = 0.50
    warn_below_usable_share: float = 0.85
    refuse_above_warmup_share: float = 0.50
    warn_above_warmup_share: float = 0.25
    refuse_above_unlabelled_share: float = 0.01
    refuse_above_leaked_share: float = 0.10
    warn_above_repeated_share: float = 0.05
    warn_above_contradictory_share: float = 0.01


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """What is wrong: the check that found it, what must hold and what was found, what to do, and in which trials.

    No trial named means the data, which concerns all of them, the baseline too.
    """

    level: Level
    check: str
    message: str
    hint: str
    trials: tuple[str, ...] = ()

    def concerns(self, trial: str) -> bool:
        """True when the trial of this name is affected."""
        return not self.trials or trial in self.trials


@dataclass(frozen=True)
class Preflight:
    """What was looked at before a launch, and what was found."""

    data: dict[str, FileQuality]
    findings: tuple[Finding, ...]

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Return the findings that must be overridden for the launch to go on."""
        return tuple(one for one in self.findings if one.level == "refuse")

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)


def preflight(forecasts: Sequence[Forecast], guards: Sequence[Guard], scan: Scan, limits: Limits = LIMITS) -> Preflight:
    """Hold a launch against the limits; refusals first, findings that trials share are one."""
    merged: dict[Finding, list[str]] = {}
    for forecast in forecasts:
        if not forecast.spec.placement.is_baseline:
            for finding in check_trial(forecast, guards, scan, limits):
                merged.setdefault(finding, []).append(forecast.spec.name)
    found = [replace(one, trials=tuple(names)) for one, names in merged.items()]
    found += check_data(scan, limits)
    return Preflight(quality_of(scan), tuple(sorted(found, key=lambda one: one.level)))


def admit(found: Preflight, force: bool) -> tuple[Finding, ...]:
    """Return the refusals that `force` overrides, none when there are none.

    Raises:
        UserError: the launch is refused; names every reason with what to do about it.
    """
    if found.refusals and not force:
        reasons = "\n".join(f"  {one.check}: {one.message}\n    {one.hint}" for one in found.refusals)
        raise UserError(
            f"the plan must pass every check before anything is spent, but {len(found.refusals)} refuse it:\n{reasons}",
            "change what they name, or run all the same with --force; the records will say so",
        )
    return found.refusals


# -------------------------------------------------------------------- one trial
def check_trial(forecast: Forecast, guards: Sequence[Guard], scan: Scan, limits: Limits) -> Iterator[Finding]:
    """Yield what is wrong with the budget and the schedule of one trial that trains."""
    yield from _coverage(forecast, len(scan.train), limits)
    yield from _schedule(forecast.spec, limits)
    yield from _evals(forecast, guards)
    yield from _lengths(forecast.spec, scan)
    yield from _parent(forecast)


def needed_evals(guard: Guard) -> int:
    """Return how many evals a guard must have seen before it can stop a trial."""
    return guard.patience_evals if isinstance(guard, Floor | Ceiling | Fall) else guard.worsening_intervals + 1


def _coverage(forecast: Forecast, train_rows: int, limits: Limits) -> Iterator[Finding]:
    spec, epochs = forecast.spec, forecast.coverage_epochs
    seen = f"{spec.steps} steps of {spec.effective_rows} rows see {epochs:.1%} of {train_rows:,}"
    hint = f"one pass takes {-(-train_rows // spec.effective_rows):,} steps: --epochs 1"
    if epochs < limits.warn_below_coverage_epochs:
        yield Finding(
            "refuse" if epochs < limits.refuse_below_coverage_epochs else "warn",
            "coverage",
            f"training must see {limits.refuse_below_coverage_epochs:.0%} of the rows and should see "
            f"{limits.warn_below_coverage_epochs:.0%}, but {seen}",
            hint,
        )
    if epochs > limits.warn_above_coverage_epochs:
        most = f"{limits.warn_above_coverage_epochs:g} times"
        yield Finding("warn", "coverage", f"a row should be seen at most {most}, but {seen}", hint)
    if spec.effective_rows < limits.warn_below_effective_rows:
        yield Finding(
            "warn",
            "effective_batch",
            f"an optimizer step should see at least {limits.warn_below_effective_rows} rows, but {spec.batch_rows} x "
            f"{spec.accumulation_steps} are {spec.effective_rows}",
            "raise accumulation_steps; it costs no memory",
        )


def _schedule(spec: TrialSpec, limits: Limits) -> Iterator[Finding]:
    usable = usable_share(spec, limits.usable_rate_ratio)
    if usable < limits.warn_below_usable_share:
        yield Finding(
            "refuse" if usable < limits.refuse_below_usable_share else "warn",
            "usable_rate",
            f"{limits.refuse_below_usable_share:.0%} of the steps must and {limits.warn_below_usable_share:.0%} should "
            f"train at {limits.usable_rate_ratio:.0%} of the peak rate or more, but {usable:.1%} do; the last of "
            f"{spec.steps} runs at {last_rate(spec):.1g} where the peak is {spec.learning_rate:g}",
            f"raise min_rate_ratio, now {spec.min_rate_ratio:g}, to {limits.usable_rate_ratio:g}"
            if spec.min_rate_ratio < limits.usable_rate_ratio
            else f"lower warmup_ratio, now {spec.warmup_ratio:g}, or train longer",
        )
    warmup = warmup_steps(spec.steps, spec.warmup_ratio)
    if warmup > limits.warn_above_warmup_share * spec.steps:
        yield Finding(
            "refuse" if warmup > limits.refuse_above_warmup_share * spec.steps else "warn",
            "warmup",
            f"warm-up must take at most {limits.refuse_above_warmup_share:.0%} of the steps and should take at most "
            f"{limits.warn_above_warmup_share:.0%}, but it takes {warmup} of {spec.steps}",
            f"lower warmup_ratio, now {spec.warmup_ratio:g}, or train longer",
        )


def _evals(forecast: Forecast, guards: Sequence[Guard]) -> Iterator[Finding]:
    spec, blind = forecast.spec, [guard for guard in guards if needed_evals(guard) > forecast.evals]
    if not blind:
        return
    needed = max(map(needed_evals, blind))
    every = (spec.steps - 1) // (needed - 1)
    names = ", ".join(guard.metric for guard in blind)
    yield Finding(
        "refuse",
        "evals",
        f"a guard must see {needed} evals before it can stop an arm, but {spec.steps} steps with one every "
        f"{spec.eval_every_steps} have {forecast.evals}: {names} would never act",
        f"--eval-every {every}, or more steps" if every else f"train at least {needed} steps",
    )


def _parent(forecast: Forecast) -> Iterator[Finding]:
    if forecast.parent_base == UNKNOWN_BASE and forecast.spec.init_from:
        yield Finding(
            "warn",
            "parent_base",
            f"an adapter should be continued on the base it was trained on, but {forecast.spec.init_from.path} does "
            "not say which that was",
            "its modules and shapes do fit; look at `base_model_name_or_path` in its adapter_config.json",
        )


def _lengths(spec: TrialSpec, scan: Scan) -> Iterator[Finding]:
    long = longer_than(scan.train, spec.max_tokens)
    if long.count:
        longest = max(row.tokens for row in scan.train)
        yield Finding(
            "refuse",
            "max_tokens",
            f"every training row must fit max_tokens = {spec.max_tokens}, but {_named(long)} are longer",
            f"raise max_tokens to {longest}, shorten them, or shrink their pictures; a row is never cut",
        )


# -------------------------------------------------------------------- the data
def check_data(scan: Scan, limits: Limits) -> Iterator[Finding]:
    """Yield what is wrong with the rows themselves, whoever trains on them."""
    qualities = quality_of(scan)
    for name, quality in qualities.items():
        yield from _encoding(name, quality, scan)
        yield from _repeated(name, quality, limits)
    yield from _labels(scan, limits)
    yield from _answers(qualities["train"], limits)
    for name, rows in (("validation", scan.validation), ("ood", scan.ood)):
        yield from _leaked("picture", name, with_pictures_of(rows, scan.train), limits)
        yield from _leaked("question", name, with_questions_of(rows, scan.train), limits)


def _encoding(name: str, quality: FileQuality, scan: Scan) -> Iterator[Finding]:
    broken = quality.unencodable
    if broken.count:
        problem = next(row.problem for row in getattr(scan, name) if row.problem)
        yield Finding(
            "refuse",
            "encoding",
            f"every row of {name} must become tokens, but {_named(broken)} do not; the first: {problem}",
            "repair or drop them; a trial fails where it meets one",
        )


def _labels(scan: Scan, limits: Limits) -> Iterator[Finding]:
    for name in ("train", "validation"):
        rows = without_labels(getattr(scan, name))
        if rows.count:
            yield Finding(
                "refuse" if rows.share >= limits.refuse_above_unlabelled_share else "warn",
                "labels",
                f"a row of {name} must supervise its answer and nothing else, but {_named(rows)} supervise no token "
                "of an answer, or every token",
                "look at how the chat template renders these rows; some templates drop what stands in <think> tags",
            )


def _repeated(name: str, quality: FileQuality, limits: Limits) -> Iterator[Finding]:
    if quality.repeated.share > limits.warn_above_repeated_share:
        yield Finding(
            "warn",
            "repeated_rows",
            f"at most {limits.warn_above_repeated_share:.0%} of {name} should repeat an earlier row, "
            f"but {_named(quality.repeated)} do",
            "drop them, or count them in: they weigh more than the others",
        )


def _answers(train: FileQuality, limits: Limits) -> Iterator[Finding]:
    if train.contradictory.share > limits.warn_above_contradictory_share:
        yield Finding(
            "warn",
            "contradictions",
            "one question about the same pictures should have one answer, but "
            f"{_named(train.contradictory)} of train answer otherwise than an earlier row",
            "read these rows; where several answers are right, exact match measures none of them",
        )
    if train.answers == 1 and train.rows > 1:
        yield Finding(
            "warn",
            "one_answer",
            f"training rows should have answers to tell apart, but all {train.rows:,} have the same one",
            "a model learns it without reading the question",
        )


def _leaked(what: str, name: str, rows: Rows, limits: Limits) -> Iterator[Finding]:
    if rows.count:
        yield Finding(
            "refuse" if rows.share > limits.refuse_above_leaked_share else "warn",
            f"{what}_leak",
            f"a {what} of {name} must not stand in train, but {_named(rows)} have one that does",
            "move these rows to one file; an eval on what was trained measures memory",
        )


def _named(rows: Rows) -> str:
    more = ", ..." if rows.count > len(rows.first) else ""
    return f"{rows.count:,} of {rows.total:,} ({', '.join(rows.first)}{more})"

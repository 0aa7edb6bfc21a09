"""Preflight checks of one trial: coverage, schedule, evals, row lengths and parent adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweeps.planning.data_quality import (
    longer_than,
)
from sweeps.planning.finding import PreflightFinding, named_rows
from sweeps.planning.forecast import Forecast, last_rate, usable_share
from sweeps.study import PreflightLimits
from trainables.checkpoints.compatibility import UNKNOWN_BASE
from trainables.data.scan import Scan
from trainables.data_files import rows_of_a_pass
from trainables.decision import Guard
from trainables.errors import UserError
from trainables.schedule import warmup_steps
from trainables.spec import TrialSpec


# -------------------------------------------------------------------- one trial
def check_trial(
    forecast: Forecast, guards: Sequence[Guard], scan: Scan, limits: PreflightLimits
) -> Iterator[PreflightFinding]:
    """Yield the findings about one trial that is not a baseline."""
    yield from _coverage(forecast, len(scan.train), limits)
    yield from _schedule(forecast.spec, limits)
    yield from _evals(forecast, guards)
    yield from _lengths(forecast.spec, scan)
    yield from _parent(forecast)


def _coverage(forecast: Forecast, train_rows: int, limits: PreflightLimits) -> Iterator[PreflightFinding]:
    spec, epochs = forecast.spec, forecast.coverage_epochs
    task = f", {1 - spec.replay_ratio:.0%} of them task rows," if spec.replay else ""
    seen = f"{spec.steps} steps of {spec.effective_rows} rows{task} see {epochs:.1%} of {train_rows:,}"
    steps = -(-rows_of_a_pass(train_rows, spec.replay_ratio) // spec.effective_rows)
    hint = f"one pass takes {steps:,} steps: --epochs 1"
    if epochs < limits.warn_below_coverage_epochs:
        yield PreflightFinding(
            "refuse" if epochs < limits.refuse_below_coverage_epochs else "warn",
            "coverage",
            f"training must see {limits.refuse_below_coverage_epochs:.0%} of the rows and should see "
            f"{limits.warn_below_coverage_epochs:.0%}, but {seen}",
            hint,
        )
    if epochs > limits.warn_above_coverage_epochs:
        most = f"{limits.warn_above_coverage_epochs:g} times"
        yield PreflightFinding("warn", "coverage", f"a row should be seen at most {most}, but {seen}", hint)
    if spec.effective_rows < limits.warn_below_effective_rows:
        yield PreflightFinding(
            "warn",
            "effective_batch",
            f"an optimizer step should see at least {limits.warn_below_effective_rows} rows, but {spec.batch_rows} x "
            f"{spec.accumulation_steps} are {spec.effective_rows}",
            "raise accumulation_steps, which takes no more memory",
        )


def _schedule(spec: TrialSpec, limits: PreflightLimits) -> Iterator[PreflightFinding]:
    usable = usable_share(spec, limits.usable_rate_ratio)
    if usable < limits.warn_below_usable_share:
        yield PreflightFinding(
            "refuse" if usable < limits.refuse_below_usable_share else "warn",
            "usable_rate",
            f"{limits.refuse_below_usable_share:.0%} of the steps must and {limits.warn_below_usable_share:.0%} should "
            f"train at {limits.usable_rate_ratio:.0%} of the peak rate or more, but {usable:.1%} do; the rate of the "
            f"last of {spec.steps} steps is {last_rate(spec):.1g}, and the peak is {spec.learning_rate:g}",
            f"raise min_rate_ratio, now {spec.min_rate_ratio:g}, to {limits.usable_rate_ratio:g}"
            if spec.min_rate_ratio < limits.usable_rate_ratio
            else f"lower warmup_ratio, now {spec.warmup_ratio:g}, or train longer",
        )
    warmup = warmup_steps(spec.steps, spec.warmup_ratio)
    if warmup > limits.warn_above_warmup_share * spec.steps:
        yield PreflightFinding(
            "refuse" if warmup > limits.refuse_above_warmup_share * spec.steps else "warn",
            "warmup",
            f"warm-up must take at most {limits.refuse_above_warmup_share:.0%} of the steps and should take at most "
            f"{limits.warn_above_warmup_share:.0%}, but it takes {warmup} of {spec.steps}",
            f"lower warmup_ratio, now {spec.warmup_ratio:g}, or train longer",
        )


def _evals(forecast: Forecast, guards: Sequence[Guard]) -> Iterator[PreflightFinding]:
    spec, inactive = forecast.spec, [guard for guard in guards if guard.evals_needed > forecast.evals]
    if not inactive:
        return
    needed = max(guard.evals_needed for guard in inactive)
    every = (spec.steps - 1) // (needed - 1)
    names = ", ".join(guard.metric for guard in inactive)
    yield PreflightFinding(
        "refuse",
        "evals",
        f"a guard needs {needed} evals before it can stop an arm, but {spec.steps} steps with one every "
        f"{spec.eval_every_steps} have {forecast.evals}: the guards on {names} could never stop it",
        f"--eval-every {every}, or more steps" if every else f"train at least {needed} steps",
    )


def _parent(forecast: Forecast) -> Iterator[PreflightFinding]:
    found = forecast.parent_base or ""
    if found.startswith(UNKNOWN_BASE) and forecast.spec.init_from:
        yield PreflightFinding(
            "warn",
            "parent_base",
            f"an adapter should be continued on the base it was trained on, but that of {forecast.spec.init_from.path} "
            f"is {found}",
            "its modules and shapes match this base; check `base_model_name_or_path` in its adapter_config.json",
        )


def _lengths(spec: TrialSpec, scan: Scan) -> Iterator[PreflightFinding]:
    rows = (*scan.train, *(scan.replay if spec.replay else ()))
    long = longer_than(rows, spec.max_tokens)
    if long.count:
        longest = max(row.tokens for row in rows)
        yield PreflightFinding(
            "refuse",
            "max_tokens",
            f"every training row must have at most max_tokens = {spec.max_tokens} tokens, but {named_rows(long)} have "
            "more",
            f"raise max_tokens to {longest}, shorten the rows, or shrink their pictures; rows are never truncated",
        )


def check_packable(specs: Sequence[TrialSpec], scan: Scan, packs_rows: bool = True) -> None:
    """Refuse packed trials whose base cannot keep rows apart, or whose training rows have pictures.

    Raises:
        UserError: naming the trials and the rows.
    """
    packed = [spec.name for spec in specs if spec.packed_tokens and not spec.placement.is_baseline]
    if packed and not packs_rows:
        raise UserError(
            f"packed_tokens needs attention that a mask keeps within a row, but {specs[0].base.path.name} has layers "
            f"of linear attention, whose state goes on from row to row; it is set for {', '.join(packed[:4])}"
            f"{', ...' * (len(packed) > 4)}",
            "set packed_tokens to 0: rows are then padded",
        )
    rows = (*scan.train, *scan.replay)
    pictured = [row.row_id for row in rows if row.pictures]
    if packed and pictured:
        raise UserError(
            f"packed_tokens can pack only text rows, but {len(pictured):,} of {len(rows):,} training rows have a "
            f"picture, the first is `{pictured[0]}`; it is set for {', '.join(packed[:4])}"
            f"{', ...' * (len(packed) > 4)}",
            "set packed_tokens to 0, or train on rows without pictures",
        )

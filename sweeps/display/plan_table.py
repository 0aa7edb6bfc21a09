"""The plan as text: the trials, a summary of the data, and the findings of preflight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from sweeps.display.trial_rows import listed
from sweeps.planning.data_quality import FileQuality, quality_table
from sweeps.planning.eval_cost import eval_cost_text
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.forecast import Forecast, table, usable_share
from sweeps.planning.guard_errors import errors_text
from sweeps.planning.pick_rows import pick_rows_text
from sweeps.planning.plan import Plan
from sweeps.planning.preflight import Preflight
from sweeps.planning.sources import Sources
from sweeps.study import PREFLIGHT_LIMITS, Study
from trainables.folded import Folded
from trainables.schedule import warmup_steps

SHOWN_ROWS = 200  # nobody reads on, and a terminal takes seconds to lay out thousands
SHARED = ("rank", "alpha", "quant", "coverage", "evals")  # columns that are a sentence if all trained trials agree
NO_VISION_TOWER = "No vision tower: vision LoRA is ignored; arms that are equal without it are merged."


def plan_text(study: Study, planned: Plan, cohorts: str, is_forced: bool) -> list[RenderableType]:
    """Return the parts of a printed plan: trials, cohorts, data, notes on what does not apply, and findings.

    Refusals are included only when `is_forced`, because they are then overridden.
    """
    parts: list[RenderableType] = [
        matrix(study, planned.forecasts, planned.sources.train_rows),
        cohorts,
        quality_grid(planned.preflight.data),
    ]
    if shown := date_text(planned.sources):
        parts.append(shown)
    if planned.sources.dropped:
        parts.append(planned.sources.dropped)
    if not planned.sources.sees and any(arm.vision for arm in study.arms):
        parts.append(NO_VISION_TOWER)
    if planned.active.left_out:
        parts.append(planned.active.left_out)
    return [*parts, *decisions_text(planned), *found_text(planned.preflight, is_forced)]


def decisions_text(planned: Plan) -> list[str]:
    """Return what is decided at the evals, and how surely: how often one is, errors of guards, rows of the pick."""
    study, data, sources = planned.active.study, planned.preflight.data, planned.sources
    texts = (
        evals_text(planned.forecasts),
        eval_cost_text(planned.forecasts, data, sources.ood_rows, sources.sees, planned.suites),
        errors_text(planned.guard_errors, study.reading),
        pick_rows_text(study.constraint, planned.pick_rows),
    )
    return [text for text in texts if text]


def evals_text(forecasts: Sequence[Forecast]) -> str:
    """Return how many evals a trial has, and how closely they bracket a step; empty if no trial trains."""
    trained = [one for one in forecasts if not one.spec.placement.is_baseline]
    if not trained:
        return ""
    evals, steps = _range([one.evals for one in trained]), _range([one.spec.eval_every_steps for one in trained])
    within = _range([min(one.spec.steps, one.spec.eval_every_steps) for one in trained])
    return (
        f"{evals} evals a trial, one every {steps} steps: the step at which an arm leaves the admissible region is "
        f"known to within {within} steps."
    )


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def date_text(sources: Sources) -> str:
    """Return which date the chat template shows; empty if it shows none."""
    if sources.template_date is None:
        return ""
    return f"The chat template shows a date: all trials of this experiment see {sources.template_date}, also later."


def found_text(preflight: Preflight, is_forced: bool) -> list[Text]:
    """Return the text of the warnings, and of the refusals when they are overridden; empty without any."""
    found = [one for one in preflight.findings if is_forced or one.level == "warn"]
    return [findings_text(found)] if found else []


def matrix(study: Study, forecasts: list[Forecast], train_rows: int) -> Group:
    """Show the trials: parameters per tower, adapter size, coverage of the data."""
    spec = forecasts[-1].spec
    rows, shared = without_shared(table(forecasts), [one.spec.placement.is_baseline for one in forecasts])
    usable = usable_share(spec, PREFLIGHT_LIMITS.usable_rate_ratio)
    steps = _range([one.spec.steps for one in forecasts if not one.spec.placement.is_baseline] or [spec.steps])
    return Group(
        Text(f"{study.name}: {study.question}", style="bold"),
        _grid(rows[: SHOWN_ROWS + 1], left=("trial", "place", "id", "quant")),
        *([Text(more)] if (more := more_text(forecasts[SHOWN_ROWS:])) else []),
        *([Text(shared)] if shared else []),
        Text(
            f"{len(forecasts)} trials, {steps} steps of {spec.effective_rows} rows on {train_rows:,} training "
            f"rows: {warmup_steps(spec.steps, spec.warmup_ratio)} warm up, {usable:.0%} train at "
            f"{PREFLIGHT_LIMITS.usable_rate_ratio:.0%} of the peak rate or more. The columns language and vision count "
            "trained parameters."
        ),
    )


def more_text(left_out: Sequence[Forecast]) -> str:
    """Return how many trials the table leaves out, by arm; empty if it has all."""
    if not left_out:
        return ""
    arms = Counter(one.spec.arm for one in left_out)
    named = [f"{count:,} of {arm}" for arm, count in arms.items()]
    return f"… and {len(left_out):,} more trials: {listed(named)}"


def without_shared(rows: Sequence[tuple[str, ...]], baselines: Sequence[bool]) -> tuple[list[tuple[str, ...]], str]:
    """Return the table without the columns in which all trained trials agree, and a sentence with their values."""
    header, *body = rows
    trained = [row for row, is_baseline in zip(body, baselines, strict=True) if not is_baseline]
    shared = {
        name: values.pop()
        for index, name in enumerate(header)
        if name in SHARED and len(values := {row[index] for row in trained}) == 1
    }
    kept = [index for index, name in enumerate(header) if name not in shared]
    sentence = ", ".join(f"{name} {value}" for name, value in shared.items())
    return [tuple(row[index] for index in kept) for row in rows], f"All trained trials: {sentence}." * bool(shared)


def quality_grid(data: Mapping[str, FileQuality]) -> Group:
    """Show the statistics of every file, and the lengths of the training rows."""
    train = data["train"]
    lengths = ", ".join(f"{count:,} up to {tokens}" for tokens, count in train.histogram.items())
    return Group(_grid(quality_table(data), left=("data",)), Text(f"training rows by length in tokens: {lengths}"))


def findings_text(findings: Sequence[PreflightFinding]) -> Text:
    """Return the findings as text, one line for each finding and one for its hint."""
    text = Text()
    for one in findings:
        trials = f" ({listed(one.trials)})" if one.trials else ""
        text.append("overridden" if one.level == "refuse" else "warning", style="bold")
        text.append(f": {one.check}: {one.message}{trials}\n    {one.hint}\n")
    return text


def _grid(rows: Sequence[tuple[str, ...]], left: tuple[str, ...]) -> Folded:
    header, *body = rows
    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in header:
        side: JustifyMethod = "left" if name in left else "right"
        grid.add_column(name, justify=side, no_wrap=True)
    for row in body:
        grid.add_row(*row)
    return Folded(grid)

"""What a launch says before and after: the matrix it would run, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.board import MARKS
from sweeps.plan import Forecast, table, usable_share
from sweeps.preflight import LIMITS, Finding
from sweeps.projection import labels_of
from sweeps.quality import FileQuality, quality_table
from sweeps.study import Study
from trainables.dominance import as_costs, non_dominated
from trainables.metrics import generality
from trainables.record import Measurement, Record
from trainables.schedule import warmup_steps

SHOWN_TRIALS = 4  # of each finding


def matrix(study: Study, forecasts: list[Forecast], train_rows: int) -> Group:
    """Show what is about to be trained: parameters per tower, adapter size, coverage of the data."""
    spec = forecasts[-1].spec
    usable = usable_share(spec, LIMITS.usable_rate_ratio)
    return Group(
        Text(f"{study.name}: {study.question}", style="bold"),
        _grid(table(forecasts), left=("trial", "place", "id", "quant")),
        Text(
            f"{len(forecasts)} trials, {spec.steps} steps of {spec.effective_rows} rows on {train_rows:,} training "
            f"rows: {warmup_steps(spec.steps, spec.warmup_ratio)} warm up, {usable:.0%} train at "
            f"{LIMITS.usable_rate_ratio:.0%} of the peak rate or more. Language and vision are trained parameters."
        ),
    )


def quality_grid(data: Mapping[str, FileQuality]) -> Group:
    """Show what every file holds, and how long its training rows are."""
    train = data["train"]
    lengths = ", ".join(f"{count:,} up to {tokens}" for tokens, count in train.histogram.items())
    return Group(_grid(quality_table(data), left=("data",)), Text(f"training rows by their tokens: {lengths}"))


def findings_text(findings: Sequence[Finding]) -> Text:
    """Say what was found before anything is spent, a line for each finding and one for what to do about it."""
    text = Text()
    for one in findings:
        trials = f" ({_listed(one.trials)})" if one.trials else ""
        text.append("overridden" if one.level == "refuse" else "warning", style="bold")
        text.append(f": {one.check}: {one.message}{trials}\n    {one.hint}\n")
    return text


def _grid(rows: Sequence[tuple[str, ...]], left: tuple[str, ...]) -> Table:
    header, *body = rows
    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in header:
        grid.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for row in body:
        grid.add_row(*row)
    return grid


def summary(study: Study, records: list[Record], experiment: str) -> str:
    """Sum up a launch: how the trials ended, the frontier in words, and the next command."""
    kinds = Counter(verdict.kind for record in records if (verdict := record.verdict()))
    ended = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    lines = ["", f"{experiment}: {len(records)} trials, {ended}.", *_frontier(records), *_labels(records)]
    lines += ["", "next:", f"    analysis pareto --experiment {experiment}", "    mlflow ui"]
    return "\n".join(lines)


GENERALITY_SAID = {"irrelevant_pass": "irrelevant-image pass", "text_retention": "text retention"}


class _Arm(NamedTuple):
    name: str
    best: Measurement
    fit: float
    baseline_fit: float


def _frontier(records: list[Record]) -> list[str]:
    arms = _admissible(records)
    gained = [arm for arm in arms if arm.fit > arm.baseline_fit]
    if not arms:
        return ["No arm finished with its generality intact: the frontier is empty."]
    if not gained:
        nearest = max(arms, key=lambda arm: arm.fit - arm.baseline_fit)
        return [
            f"No arm gained over the baseline with its generality intact: of {len(arms)} admissible trials "
            f"{nearest.name} comes nearest and answers {nearest.fit:.1%} exactly (step {nearest.best.step}), the "
            f"baseline {nearest.baseline_fit:.1%}. Longer training or a higher rate is the next question."
        ]
    kept = generality(gained[0].best.metrics)
    points = np.array([[arm.fit, arm.best.metrics[kept]] for arm in gained])
    on_frontier = non_dominated(as_costs(points, ("higher", "higher")))
    front = [arm for arm, keep in zip(gained, on_frontier, strict=True) if keep]
    said = "; ".join(
        f"{arm.name} answers {arm.fit:.0%} exactly and keeps {arm.best.metrics[kept]:.0%} "
        f"{GENERALITY_SAID[kept]} (step {arm.best.step})"
        for arm in sorted(front, key=lambda arm: -arm.fit)
    )
    return [
        f"Frontier of task fit against generality, {len(gained)} of {len(arms)} admissible trials gain over the "
        f"baseline: {said}."
    ]


def _admissible(records: list[Record]) -> list[_Arm]:
    by_id = {record.spec().trial_id: record for record in records}
    arms = []
    for record in records:
        spec, verdict, best = record.spec(), record.verdict(), record.best()
        if verdict is not None and verdict.kind == "completed" and best is not None:
            baseline = by_id[spec.baseline().trial_id].evals()[0].metrics
            arms.append(_Arm(spec.name, best, best.metrics["exact_match"], baseline["exact_match"]))
    return arms


def _labels(records: list[Record]) -> list[str]:
    labels = {record.spec().name: labels_of(record) for record in records}
    criteria = Counter(one["criteria"] for one in labels.values() if "criteria" in one)
    counts = ", ".join(f"{criteria[most]} {most}" for most in ("optimal", "minimum", "none") if criteria[most])
    lines = [f"Success criteria met: {counts}."] if counts else []
    for label, (_, meaning) in MARKS.items():
        by_checks: dict[str, list[str]] = {}
        for name, one in labels.items():
            if label in one:
                by_checks.setdefault(one[label].replace(",", ", "), []).append(name)
        told = "; ".join(f"{_listed(names)} ({checks})" for checks, names in by_checks.items())
        lines += [f"{meaning[0].upper()}{meaning[1:]}: {told}."] if told else []
    return lines


def _listed(trials: Sequence[str]) -> str:
    more = f" and {len(trials) - SHOWN_TRIALS} more" if len(trials) > SHOWN_TRIALS else ""
    return ", ".join(trials[:SHOWN_TRIALS]) + more

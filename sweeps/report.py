"""What a launch says before and after: the matrix it would run, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.plan import Forecast, table, usable_share
from sweeps.preflight import LIMITS, Finding
from sweeps.quality import FileQuality, quality_table
from sweeps.study import Study
from trainables.dominance import as_costs, non_dominated
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
        named = ", ".join(one.trials[:SHOWN_TRIALS])
        more = f" and {len(one.trials) - SHOWN_TRIALS} more" if len(one.trials) > SHOWN_TRIALS else ""
        text.append("overridden" if one.level == "refuse" else "warning", style="bold")
        text.append(f": {one.check}: {one.message}{f' ({named}{more})' if named else ''}\n    {one.hint}\n")
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
    lines = ["", f"{experiment}: {len(records)} trials, {ended}.", *_frontier(records)]
    lines += ["", "next:", f"    analysis pareto --experiment {experiment}", "    mlflow ui"]
    return "\n".join(lines)


def _frontier(records: list[Record]) -> list[str]:
    found: list[tuple[str, Measurement]] = []
    for record in records:
        verdict, best = record.verdict(), record.best()
        if verdict is not None and verdict.kind == "completed" and best is not None:
            found.append((record.spec().name, best))
    if not found:
        return ["No arm finished with its generality intact: the frontier is empty."]
    points = np.array([[best.metrics["exact_match"], best.metrics["irrelevant_pass"]] for _, best in found])
    on_frontier = non_dominated(as_costs(points, ("higher", "higher")))
    front = [one for one, keep in zip(found, on_frontier, strict=True) if keep]
    front.sort(key=lambda one: -one[1].metrics["exact_match"])
    said = "; ".join(
        f"{name} answers {best.metrics['exact_match']:.0%} exactly and keeps {best.metrics['irrelevant_pass']:.0%} "
        f"irrelevant-image pass (step {best.step})"
        for name, best in front
    )
    return [f"Frontier of task fit against generality, {len(found)} admissible trials: {said}."]

"""What a launch says before and after: the matrix it would run, and what came of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.plan import Forecast, table
from sweeps.study import Study
from trainables.dominance import as_costs, non_dominated
from trainables.record import Measurement, Record


def matrix(study: Study, forecasts: list[Forecast], train_rows: int) -> Group:
    """Show what is about to be trained: parameters per tower, adapter size, coverage of the data."""
    header, *rows = table(forecasts)
    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in header:
        grid.add_column(name, justify="left" if name in ("trial", "place", "id", "quant") else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    spec = forecasts[-1].spec
    return Group(
        Text(f"{study.name}: {study.question}", style="bold"),
        grid,
        Text(
            f"{len(rows)} trials, {spec.steps} steps of {spec.effective_rows} rows on {train_rows:,} training rows; "
            "language and vision are trained parameters."
        ),
    )


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

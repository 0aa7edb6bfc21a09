"""The plan as text: the matrix of trials, what the data holds, what preflight found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.display.summary import listed
from sweeps.planning.data_quality import FileQuality, quality_table
from sweeps.planning.finding import Finding
from sweeps.planning.forecast import Forecast, table, usable_share
from sweeps.study import LIMITS, Study
from trainables.schedule import warmup_steps


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
        trials = f" ({listed(one.trials)})" if one.trials else ""
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

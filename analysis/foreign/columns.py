"""Which column of foreign results is x, y, label, seed or group: `--map`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.mlflow_runs import ExperimentRuns, TrialRun, Value
from analysis.objectives import check_direction
from trainables.errors import UserError, nearest, quoted
from trainables.metrics import METRICS
from trainables.pareto import Objective

LARGEST = 1e100  # the differences and areas of values as large are finite too
OBJECTIVES, NAMES = ("x", "y"), ("label", "seed", "group")
EXAMPLE = "for example --map x=memory_max:lower --map y=test_accuracy:higher --map label=experiment_name"


@dataclass(frozen=True)
class ColumnMap:
    """The columns of foreign results.

    `label` names what was run, and `group` what it belongs to. Results of equal label and group that differ in `seed`
    are one result over seeds.
    """

    x: Objective
    y: Objective
    label: str | None = None
    seed: str | None = None
    group: str | None = None

    @property
    def objectives(self) -> tuple[Objective, Objective]:
        """Return x and y."""
        return self.x, self.y


@dataclass(frozen=True)
class ForeignRow:
    """The values of one run by column: numbers of x and y, texts of the others; `run_id` is unique."""

    run_id: str
    numbers: Mapping[str, float]
    texts: Mapping[str, str]


def parse_map(texts: Sequence[str]) -> ColumnMap:
    """Parse `x=COLUMN:higher`, `y=COLUMN:lower`, `label=COLUMN`, `seed=COLUMN` and `group=COLUMN`.

    The direction may be left out for a metric that Footprint knows.

    Raises:
        UserError: x or y is missing, a text is malformed, a name is unknown or given twice, or a direction is unknown
            or against the metric's own.
    """
    columns: dict[str, str] = {}
    for text in texts:
        name, equals, column = (part.strip() for part in text.partition("="))
        if not equals or not column:
            raise UserError(f"--map must be NAME=COLUMN, but got {quoted(text)}", EXAMPLE)
        if name not in (*OBJECTIVES, *NAMES):
            raise UserError(f"--map must name one of {', '.join((*OBJECTIVES, *NAMES))}, but got {quoted(text)}",
                            nearest(name, (*OBJECTIVES, *NAMES)))  # fmt: skip
        if name in columns:
            raise UserError(f"--map must name {name} once, but got {columns[name]} and {column}", EXAMPLE)
        columns[name] = column
    missing = [name for name in OBJECTIVES if name not in columns]
    if missing:
        gone = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        raise UserError(f"--map must name the columns x and y, but {gone}", EXAMPLE)
    x, y = (_objective(name, columns[name]) for name in OBJECTIVES)
    if x.name == y.name:
        raise UserError(f"x and y must be two columns, but both are `{x.name}`", EXAMPLE)
    return ColumnMap(x, y, *(columns.get(name) for name in NAMES))


def _objective(name: str, text: str) -> Objective:
    column, separator, direction = text.rpartition(":")
    if not separator:
        column, direction = text, METRICS[text].direction if text in METRICS else ""
    if direction not in ("higher", "lower"):
        raise UserError(
            f"--map {name} must say which direction is better, but got `{text}`",
            nearest(direction, ("higher", "lower")) if separator and direction else f"--map {name}={text}:higher",
        )
    check_direction(column, direction, f"--map {name}=")
    return Objective(column, direction, METRICS[column].unit if column in METRICS else "")


def number_in(value: object, where: str) -> float:
    """Return a number of foreign results; `where` names file, line and column.

    Raises:
        UserError: it is missing, text, NaN, infinite or larger than 1e100.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > LARGEST:
        found = "it is empty" if value in ("", None) else f"got {quoted(value)}"
        must = f"number up to {LARGEST:g}" if math.isfinite(number) else "finite number"
        raise UserError(f"{where}: a value must be a {must}, but {found}",
                        "correct it, or remove the row, which then is not compared")  # fmt: skip
    return number


def experiment_of_rows(name: str, columns: ColumnMap, rows: Sequence[ForeignRow]) -> ExperimentRuns:
    """Return foreign results as the completed trials of an experiment without a baseline."""
    return ExperimentRuns(name, None, frozenset(), tuple(_trial(row, columns) for row in rows), is_foreign=True)


def _trial(row: ForeignRow, columns: ColumnMap) -> TrialRun:
    label = row.texts.get(columns.label or "", f"run {row.run_id}")
    group = row.texts.get(columns.group or "")
    name = f"{group}: {label}" if group else label
    parameters: dict[str, Value] = {"seed": row.texts[columns.seed] if columns.seed else row.run_id}
    values = dict(row.numbers)
    return TrialRun(
        trial_id=row.run_id,
        name=name,
        arm=name,
        run_id=row.run_id,
        started_ms=0,
        run_status="FINISHED",
        verdict="completed",
        verdict_kind="completed",
        verdict_reason=None,
        best_step=None,
        record=None,
        parameters=parameters if columns.seed else {**parameters, "run": row.run_id},
        last=values,
        best=values,
    )

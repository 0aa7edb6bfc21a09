"""Reads the runs of a foreign MLflow experiment, whose metrics are named by `--map`."""

from __future__ import annotations

from analysis.foreign.columns import ColumnMap, ForeignRow, experiment_of_rows, number_in
from analysis.mlflow_runs import ExperimentRuns, stored_runs
from trainables.errors import UserError, nearest
from trainables.mlflow_store import StoredRun


def read_foreign_runs(experiment: str, tracking_uri: str, columns: ColumnMap) -> ExperimentRuns:
    """Read the finished runs of an experiment that have both metrics; label, seed and group are parameters or tags.

    Raises:
        UserError: the store or the experiment cannot be read, no finished run has a metric, a value is not finite, or
            a run that has both metrics lacks a column.
    """
    finished = [run for run in stored_runs(experiment, tracking_uri) if run.status == "FINISHED"]
    measured = sorted({name for run in finished for name in run.metrics})
    for objective in columns.objectives:
        if objective.name not in measured:
            raise UserError(
                f"an objective must be measured, but no finished run of `{experiment}` has `{objective.name}`",
                nearest(objective.name, measured) if measured else "wait for the first run to finish",
            )
    names = [one.name for one in columns.objectives]
    rows = [_row(run, columns) for run in finished if all(name in run.metrics for name in names)]
    if not rows:
        raise UserError(f"a run must have both {' and '.join(names)}, but none of `{experiment}` has",
                        "name two metrics that the same runs have")  # fmt: skip
    return experiment_of_rows(experiment, columns, rows)


def _row(run: StoredRun, columns: ColumnMap) -> ForeignRow:
    where = f"run {run.name or run.run_id}"
    numbers = {one.name: number_in(run.metrics[one.name], f"{where}: metric `{one.name}`")
               for one in columns.objectives}  # fmt: skip
    known = {**run.tags, **run.params, "name": run.name}
    texts = {}
    for column in filter(None, (columns.label, columns.seed, columns.group)):
        if column not in known:
            raise UserError(f"{where}: there must be a parameter or a tag `{column}`, but there is none",
                            nearest(column, known))  # fmt: skip
        texts[column] = known[column]
    return ForeignRow(run.run_id, numbers, texts)

"""Reads the runs of a study and reports which placements to use.

From Python, as pandas frames::

    from analysis import eval_frame, frontier_frame, records_of, trial_frame

    records = records_of("stage4")
    trial_frame(records)[["name", "verdict", "best.exact_match"]]
    frontier_frame("stage4")

- `attained`: How far the frontier reaches in draws of rows and seeds: attainment surfaces, and its hypervolume with an
  interval.
- `candidates`: The candidates of an experiment: every eval of every arm, over its seeds, with results by row.
- `charts/`: Draws the frontier.
- `cli`: The command line `analysis`.
- `compare/`: Compares two candidates on the same rows.
- `conclusion`: What a study says: the frontier, what to ship, and the holdout; every command and file concludes by
  this alone.
- `decision/`: Decides what to ship from results by row: draws, probabilities, and the pick.
- `effects/`: Estimates what layers, rank and rate do to fit and generality, and judges hypotheses by contrasts.
- `foreign/`: Reads results that no study of Footprint made, so that they can be compared.
- `frames`: Records and the frontier as pandas frames, for notebooks and scripts.
- `frontier`: Compares placements: by the results by row where the records have them, else by their best checkpoints.
- `guard_limits`: Finds the limit that a guard set on a metric, from the verdicts of an experiment.
- `holdout`: What is known of the pick on held-out rows, which no eval of a trial asks: measured, not yet, or none are.
- `intervals`: Intervals of proportions.
- `logged_measurements`: Reads what the trials of an experiment measured, with results by row, from the files that
  MLflow keeps of runs.
- `mlflow_runs`: Reads the trials of a study from MLflow, and logs the finished frontier to it.
- `objectives`: The objectives of a frontier, from the options of the command line.
- `open_page`: Opens a page that was written in the reader's browser, where there is one.
- `options`: Options that several commands have, and the words that repeat them in a printed command.
- `placement_results`: The result of a frontier as frozen values, from which every table, file and chart is made.
- `placements`: Groups the seeds of a placement, and decides which trials may be compared.
- `printed_commands`: Commands that others print: runs one, for options that follow it, and copies records to MLflow.
- `probabilities`: Writes probabilities so that rounding never moves one to the other side of a level, or makes it
  certain.
- `read_conclusion`: Reads a study from MLflow and concludes, as a command was asked to.
- `report/`: Writes the frontier as text and files.
- `runs_table`: The command `analysis runs`: the runs of a study in MLflow, one a line.
- `seeds/`: Says which arms deserve more seeds, or that rows limit the choice.
- `shipping/`: Chooses what is shipped, writes its directory and model card, and checks it in a fresh process.
- `standings`: Compares placements by their results by row; every eval of an arm is a candidate on its path.
- `study_constraint`: The constraint that a study declared, from the experiment's `study.json`.
- `study_report/`: Writes the report of a study: one page that opens without a network, or Markdown.
- `templates`: Fills the templates of pages; each template is in the folder `templates` of the package that uses it.
- `trial_report/`: Writes the page of one trial.
- `uncertainty`: Estimates over seeds: confidence intervals, and the probability of being on the frontier.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.frames import eval_frame, frontier_frame, records_of, trial_frame

__all__ = ["eval_frame", "frontier_frame", "records_of", "trial_frame"]


def __getattr__(name: str) -> Any:  # `import analysis` loads no library
    if name not in __all__:
        raise AttributeError(f"module `analysis` has no attribute `{name}`")
    return getattr(import_module("analysis.frames"), name)

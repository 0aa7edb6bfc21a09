"""Reads the runs of a study and reports which placements to use.

- `candidates`: The candidates of an experiment: every eval of every arm, over its seeds, with results by row.
- `charts/`: Draws the frontier.
- `cli`: The command line `analysis`.
- `foreign/`: Reads results that no study of Footprint made, so that they can be compared.
- `frontier`: Compares placements; the result is one frozen value, from which every table, file and chart is made.
- `guard_limits`: Finds the limit that a guard set on a metric, from the verdicts of an experiment.
- `intervals`: Intervals of proportions.
- `mlflow_runs`: Reads the trials of a study from MLflow, and logs the finished frontier to it.
- `objectives`: The objectives of a frontier, from the options of the command line.
- `placements`: Groups the seeds of a placement, and decides which trials may be compared.
- `report/`: Writes the frontier as text and files.
- `shipping/`: Ships a seed of an arm: chooses it, writes its directory and model card, and checks it in a fresh process.
- `study_report/`: Writes the report of a study: one page that opens without a network, or Markdown.
- `templates`: Fills the templates of pages; each template is in the folder `templates` of the package that uses it.
- `trial_report/`: Writes the page of one trial.
- `uncertainty`: Estimates over seeds: confidence intervals, and the probability of being on the frontier.
"""

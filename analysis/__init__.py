"""Reads the runs of a study and reports which placements to use.

- `candidates`: The candidates of an experiment: every eval of every arm, over its seeds, with results by row.
- `charts/`: Draws the frontier.
- `cli`: The command line `analysis`.
- `compare/`: Compares two candidates on the same rows.
- `effects/`: Estimates what layers, rank and rate do to fit and generality, and judges hypotheses by contrasts.
- `frontier`: Compares placements; the result is one frozen value, from which every table, file and chart is made.
- `guard_limits`: Finds the limit that a guard set on a metric, from the verdicts of an experiment.
- `mlflow_runs`: Reads the trials of a study from MLflow, and logs the finished frontier to it.
- `objectives`: The objectives of a frontier, from the options of the command line.
- `placements`: Groups the seeds of a placement, and decides which trials may be compared.
- `report/`: Writes the frontier as text and files.
- `templates`: Fills the templates of pages; each template is in the folder `templates` of the package that uses it.
- `trial_report/`: Writes the page of one trial.
- `uncertainty`: Estimates over seeds: confidence intervals, and the probability of being on the frontier.
"""

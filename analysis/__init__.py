"""Reads the runs of a study and reports which placements to use.

- `admissibility`: How probable it is that a candidate meets the constraint, and how many rows that takes at least.
- `attained`: How far the frontier reaches in draws of rows and seeds: attainment surfaces, and its hypervolume with an
  interval.
- `candidates`: The candidates of an experiment: every eval of every arm, over its seeds, with results by row.
- `charts/`: Draws the frontier.
- `choice`: The rule that picks one of several candidates, on arrays in which higher is better.
- `cli`: The command line `analysis`.
- `compare/`: Compares two candidates on the same rows.
- `conclusion`: What a study says: the frontier, what to ship, and the holdout; every command and file concludes by
  this alone.
- `effects/`: Estimates what layers, rank and rate do to fit and generality, and judges hypotheses by contrasts.
- `evidence`: What the results by row say of all candidates together: draws, and the probability of being admissible.
- `finalists`: Finalists, the candidates that more rows can make the pick: their results on all irrelevant rows.
- `foreign/`: Reads results that no study of Footprint made, so that they can be compared.
- `frontier`: Compares placements: by the results by row where the records have them, else by their best checkpoints.
- `guard_limits`: Finds the limit that a guard set on a metric, from the verdicts of an experiment.
- `holdout`: What is known of the pick on held-out rows, which no eval of a trial asks: measured, not yet, or none are.
- `intervals`: Intervals of proportions.
- `judged`: What is known of each candidate: expected values with intervals, gain, admissibility, place on the frontier.
- `mlflow_runs`: Reads the trials of a study from MLflow, and logs the finished frontier to it.
- `objectives`: The objectives of a frontier, from the options of the command line.
- `options`: Options that several commands have, and the words that repeat them in a printed command.
- `pick`: Chooses what to ship: the most general candidate that the best task fit cannot be told from, and its seed.
- `pick_reasons`: Sentences about a choice: what would change it, and what is not known.
- `placement_results`: The result of a frontier as frozen values, from which every table, file and chart is made.
- `placements`: Groups the seeds of a placement, and decides which trials may be compared.
- `pooled`: The pooled estimator: draws of what candidates score on other rows and with other seeds.
- `read_conclusion`: Reads a study from MLflow and concludes, as a command was asked to.
- `report/`: Writes the frontier as text and files.
- `seeds/`: Says which arms deserve more seeds, or that rows limit the choice.
- `shipping/`: Chooses what is shipped, writes its directory and model card, and checks it in a fresh process.
- `shrinkage`: Pulls what was drawn for each candidate toward what all candidates show, several metrics at once.
- `standings`: Compares placements by their results by row; every eval of an arm is a candidate on its path.
- `study_constraint`: The constraint that a study declared, from the experiment's `study.json`.
- `study_report/`: Writes the report of a study: one page that opens without a network, or Markdown.
- `templates`: Fills the templates of pages; each template is in the folder `templates` of the package that uses it.
- `trial_report/`: Writes the page of one trial.
- `uncertainty`: Estimates over seeds: confidence intervals, and the probability of being on the frontier.
"""

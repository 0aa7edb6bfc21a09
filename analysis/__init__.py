"""Reads the runs of a study and reports which placements to use.

cli: the command line. mlflow_runs: reads trials from MLflow. objectives: the metrics that are compared. placements:
groups the seeds of a placement. guard_limits: limits of guards. uncertainty: intervals over seeds. frontier: compares
placements. templates: fills pages. charts, report, trial_report: draw and write the results.
"""

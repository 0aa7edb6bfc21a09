"""Reads the runs of a study and reports which placements to use.

cli: the command line. mlflow_runs: trials from MLflow. objectives: what is traded against what. placements: groups the
seeds of a placement. uncertainty: intervals over seeds. frontier: compares placements. templates: fills pages.
"""

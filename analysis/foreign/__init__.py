"""Reads results that no study of Footprint made, so that they can be compared.

- `columns`: Which column of foreign results is x, y, label, seed or group: `--map`.
- `results_file`: Reads a CSV or JSON file of results, one row or object for each run.
- `runs`: Reads the runs of a foreign MLflow experiment, whose metrics are named by `--map`.
"""

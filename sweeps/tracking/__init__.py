"""Copies records to MLflow.

- `mirror`: Background MLflow writer: one thread, so that neither an outage nor a slow store delays the sweep.
- `mlflow_fields`: Converts a record to MLflow params, tags, metrics and artifacts; the result depends on the record
  only.
- `removal`: Removes the runs of an experiment from MLflow, as MLflow removes: it hides them until `mlflow gc` deletes
  them.
- `sync`: Copies all records of an experiment to MLflow, after an outage or into another store.
- `tracker`: Writes records to MLflow; writing is idempotent, and a lost store can be rebuilt.
- `view`: What MLflow's pages show first: a shared view with the deciding columns, its address, and descriptions in
  words.
"""

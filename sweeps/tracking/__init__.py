"""From records to MLflow."""

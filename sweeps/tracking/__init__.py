"""Copies records to MLflow."""

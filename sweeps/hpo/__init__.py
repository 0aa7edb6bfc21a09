"""Searches placements and settings with Optuna."""

"""Search over placements and settings with Optuna."""

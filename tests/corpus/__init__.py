"""Known failures, planted in short trials: each must be found by its check in time; healthy runs must raise none."""

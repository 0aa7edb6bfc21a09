"""Real failures, planted: each must be found by its check at the latest step named, and healthy runs by none."""

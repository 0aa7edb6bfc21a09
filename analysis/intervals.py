"""Intervals of proportions."""

from __future__ import annotations

from trainables.probes.metric import Proportion

CONFIDENCE = 0.95


def proportion_interval(counted: Proportion) -> tuple[float, float]:
    """Return the 95 % interval of a rate over rows (Wilson 1927, as `scipy.stats.binomtest` computes it)."""
    from scipy.stats import binomtest

    found = binomtest(counted.successes, counted.rows).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)

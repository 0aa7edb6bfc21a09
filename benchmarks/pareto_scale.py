"""Times dominance and hypervolume on many resampled candidates."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainables.pareto import attainment, fronts, hypervolumes, share_on_frontier

CANDIDATES, RESAMPLES = 10_000, 2_000
PERCENTAGES = (5.0, 50.0, 95.0)


@dataclass(frozen=True)
class Scale:
    """Processor seconds of each function and the peak memory of the process in MB."""

    frontier_seconds: float
    hypervolume_seconds: float
    attainment_seconds: float
    peak_memory_mb: float


def resampled(candidates: int = CANDIDATES, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Yield costs (candidates, 2) of one sweep, resampled: fit and generality trade off, each with noise."""
    generator = np.random.default_rng(0)
    size = generator.random(candidates)
    truth = np.stack([-size, size**2], axis=1)
    for _ in range(resamples):
        yield truth + 0.05 * generator.standard_normal((candidates, 2))


def time_frontiers() -> Scale:
    """Time each function on fresh resamples, drawing them included."""
    began = time.process_time()
    share_on_frontier(resampled())
    frontier = time.process_time()
    hypervolumes(resampled(), np.array([1.0, 2.0]))
    volume = time.process_time()
    attainment(fronts(resampled()), PERCENTAGES)
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Scale(frontier - began, volume - frontier, done - volume, peak)

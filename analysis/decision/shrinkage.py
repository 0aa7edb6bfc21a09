"""Pulls what was drawn for each candidate toward what all candidates show, several metrics at once.

Where arms trade fit for generality, noise alone makes more of them look dominated than truly are. The draws are those
of a normal model: candidates vary around their mean with a covariance between metrics that is estimated from them
(empirical Bayes for vectors; Efron and Morris 1972, Biometrika 59:335). An estimated variance between candidates can
be 0, which would put all of them on one line; it is therefore never taken smaller than a multiple of the noise (the
reason of Chung et al. 2013, Psychometrika 78:685).
"""

from __future__ import annotations

import numpy as np

LEAST_SPREAD = 1.5  # of the noise's variance; chosen in simulated sweeps other than those that are reported
LEAST_CANDIDATES = 4


def shrunk(expected: np.ndarray) -> np.ndarray:
    """Return the draws (draws, candidates, metrics), each candidate pulled toward the rest as far as its noise asks.

    Fewer than four candidates say too little about how candidates differ, and stay as they are.
    """
    draws, candidates, metrics = expected.shape
    if candidates < LEAST_CANDIDATES:
        return expected
    common = expected.mean(axis=1, keepdims=True)
    own = expected - common
    centre = own.mean(axis=0)
    away = own - centre
    smallest = np.diag(np.maximum(own.var(axis=(0, 1)), 1e-12) * 1e-6)
    noise = np.einsum("dai,daj->aij", away, away) / draws + smallest
    spread = _spread(np.cov(centre.T).reshape(metrics, metrics), noise.mean(axis=0))
    pull = spread @ np.linalg.inv(spread + noise)
    left = pull @ noise
    narrow = _power((left + np.swapaxes(left, -1, -2)) / 2, 0.5) @ _power(noise, -0.5)
    return common + np.einsum("aij,aj->ai", pull, centre) + np.einsum("aij,daj->dai", narrow, away)


def _spread(observed: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the covariance between candidates: the observed one without the noise, at least a multiple of it."""
    root, inverse = _power(noise, 0.5), _power(noise, -0.5)
    sizes, axes = np.linalg.eigh(inverse @ observed @ inverse)
    return root @ (axes * np.maximum(sizes - 1.0, LEAST_SPREAD)) @ axes.T @ root


def _power(matrices: np.ndarray, exponent: float) -> np.ndarray:
    sizes, axes = np.linalg.eigh(matrices)
    return np.einsum("...ij,...j,...kj->...ik", axes, np.maximum(sizes, 1e-15) ** exponent, axes)

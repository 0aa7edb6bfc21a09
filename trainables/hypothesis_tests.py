"""The tests by which guards decide, with their errors; pure functions of counts and of results by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from trainables.probes.metric import RowResults

if TYPE_CHECKING:
    import numpy as np

Side = Literal["below", "above", "undecided"]

SMALLEST_RATE = 0.005  # no rate under test is 0 or 1, at which one row would decide
BOOTSTRAP_DRAWS = 4000


def log_likelihood_ratio(successes: Any, rows: Any, limit: Any, margin: float) -> Any:
    """Return the log likelihood of the rate `limit - margin` minus that of `limit + margin`; numbers or arrays."""
    import numpy as np

    low, high = (np.clip(limit + way, SMALLEST_RATE, 1.0 - SMALLEST_RATE) for way in (-margin, margin))
    return successes * np.log(low / high) + (rows - successes) * np.log((1.0 - low) / (1.0 - high))


def boundary(error: float) -> float:
    """Return the log likelihood ratio that ends a sequential test.

    A true hypothesis reaches the other one's boundary with probability at most `error`, however often one looks
    (Ville's inequality; Wald, Sequential Tests of Statistical Hypotheses, 1945).
    """
    return math.log(1.0 / error)


def sequential_test(successes: int, rows: int, limit: float, margin: float, error: float) -> Side:
    """Decide by Wald's sequential probability ratio test on which side of `limit` a rate lies.

    It tests `limit - margin` against `limit + margin` on the rows asked so far; between its two boundaries it is
    undecided, and more rows may be asked.
    """
    ratio = log_likelihood_ratio(successes, rows, limit, margin)
    if ratio >= boundary(error):
        return "below"
    return "above" if ratio <= -boundary(error) else "undecided"


def binomial_test(successes: int, rows: int, limit: float, error: float) -> Side:
    """Decide by exact one-sided binomial tests, each at level `error`, on which side of `limit` a rate lies."""
    from scipy.stats import binom

    if binom.cdf(successes, rows, limit) <= error:
        return "below"
    return "above" if binom.sf(successes - 1, rows, limit) <= error else "undecided"


def gap_draws(evals: Sequence[tuple[RowResults, RowResults]], draws: int = BOOTSTRAP_DRAWS) -> np.ndarray[Any, Any]:
    """Draw the gap between two losses at every eval, (evals, draws), by the Bayesian bootstrap over rows.

    Each eval gives the losses of the same two sets of rows, in nats per token. All evals share the weights of a draw,
    so that differences between evals are paired on rows (Rubin, The Bayesian Bootstrap, 1981). The seed is fixed.

    Raises:
        KeyError: an eval lacks a row of the first.
    """
    import numpy as np

    rng, gaps = np.random.default_rng(0), np.zeros((len(evals), draws))
    for position, sign in ((0, 1.0), (1, -1.0)):
        first = evals[0][position]
        names = list(first.values)
        tokens = np.array([first.weights.get(name, 1.0) for name in names])
        weights = rng.dirichlet(np.ones(len(names)), size=draws) * tokens
        weights /= weights.sum(axis=1, keepdims=True)
        losses = np.array([[one[position].values[name] for name in names] for one in evals])
        gaps += sign * (losses @ weights.T)
    return gaps


def sign_test(lost: int, gained: int) -> float:
    """Return the one-sided p-value of `lost` against `gained` rows, each as likely if nothing changed (McNemar)."""
    from scipy.stats import binom

    return float(binom.sf(lost - 1, lost + gained, 0.5)) if lost else 1.0

"""The objectives of a frontier, from the options of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from trainables.metrics import generality
from trainables.pareto import Objective, parse_objectives

if TYPE_CHECKING:
    from analysis.mlflow_runs import TrialRun


# a baseline has no adapter and is not trained, so these values need no measurement
BASELINE_PRICES: Mapping[str, float] = {"adapter_parameters": 0.0, "train_seconds": 0.0}


EXACT, LOSS = "exact_match", "eval_loss"


def frontier_objectives(x: str, y: str, further: Sequence[str]) -> tuple[Objective, ...]:
    """Return the objectives in order x, y, further ones; each is NAME or NAME:higher or NAME:lower.

    Raises:
        UserError: an objective is malformed, unknown (the nearest is named) or given twice; the option is named.
    """
    return parse_objectives((x, y, *further), ("--x", "--y", *["--objective"] * len(further)))


def fit_in(trials: Iterable[TrialRun]) -> str:
    """Return the metric of task fit: exact match, or the loss where exact match is 0 in every trial."""
    values = [row[EXACT] for trial in trials for row in (trial.best, trial.last) if EXACT in row]
    return LOSS if values and not any(values) else EXACT


def generality_in(trials: Iterable[TrialRun]) -> str:
    """Return the generality metric that these trials report."""
    return generality({name for trial in trials for name in (*trial.best, *trial.last)})

"""The objectives of a frontier, from the options of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from trainables.errors import UserError
from trainables.metrics import METRICS, generality
from trainables.pareto import Objective, parse_objectives
from trainables.probes.metric import Direction

if TYPE_CHECKING:
    from analysis.mlflow_runs import TrialRun


# a baseline has no adapter and is not trained, so these values need no measurement
BASELINE_PRICES: Mapping[str, float] = {"adapter_parameters": 0.0, "train_seconds": 0.0}


EXACT, LOSS = "exact_match", "eval_loss"


def frontier_objectives(x: str, y: str, further: Sequence[str]) -> tuple[Objective, ...]:
    """Return the objectives in order x, y, further ones; each is NAME or NAME:higher or NAME:lower.

    Raises:
        UserError: an objective is malformed, unknown (the nearest is named), given twice, or against the metric's own
            direction; the option is named.
    """
    options = ("--x", "--y", *["--objective"] * len(further))
    objectives = parse_objectives((x, y, *further), options)
    for one, option in zip(objectives, options, strict=True):
        check_direction(one.name, one.direction, option)
    return objectives


def check_direction(metric: str, direction: Direction, option: str) -> None:
    """Refuse a direction that would make a worse result of a known metric look better.

    Raises:
        UserError: it is against the metric's own direction; names the option.
    """
    own = METRICS[metric].direction if metric in METRICS else direction
    if own != direction:
        raise UserError(
            f"{option} must be in the metric's own direction, but for `{metric}` {own} is better, and got {direction}",
            f"{option}{metric}:{own}" if option.endswith("=") else f"{option} {metric}:{own}",
        )


def fit_in(trials: Iterable[TrialRun]) -> str:
    """Return the metric of task fit: exact match, or the loss where exact match is 0 in every trial."""
    values = [row[EXACT] for trial in trials for row in (trial.best, trial.last) if EXACT in row]
    return LOSS if values and not any(values) else EXACT


def generality_in(trials: Iterable[TrialRun]) -> str:
    """Return the generality metric that these trials report."""
    return generality({name for trial in trials for name in (*trial.best, *trial.last)})

"""Tests the means of a metric at each placement."""

from __future__ import annotations

from collections.abc import Callable

from analysis.effects.design import Observation
from analysis.effects.means import placement_means
from analysis.mlflow_runs import TrialRun
from trainables.record import Measurement


def test_a_mean_is_over_the_seeds_of_a_placement_at_the_rate_that_most_have(
    make_trial: Callable[..., TrialRun],
) -> None:
    def trial(language: int, vision: int, exact: float, seed: str = "0", rate: float = 2e-4) -> Observation:
        last = Measurement("eval", 60, {"exact_match": exact})
        return Observation(make_trial(), seed, language, vision, 16.0, rate, "none", last)

    seeds = [trial(1, 0, 0.25), trial(1, 0, 0.75, "1"), trial(4, 0, 0.5), trial(4, 6, 1.0)]
    found = placement_means([*seeds, trial(1, 6, 0.9, rate=3e-4)], "exact_match")
    assert found is not None and (found.language, found.vision) == ((1, 4), (0, 6))
    assert found.means == ((0.5, None), (0.5, 1.0)), "no trial has one layer and six blocks at that rate"
    assert placement_means(seeds[:3], "exact_match") is None, "one tower does not vary"

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
    assert found.where == "rank 16, rate 0.0002, none"
    assert found.means == ((0.5, None), (0.5, 1.0)), "no trial has one layer and six blocks at that rate"
    assert placement_means(seeds[:3], "exact_match") is None, "one tower does not vary"


def test_of_rates_that_equally_many_have_the_middle_one_is_shown_and_all_are_named(
    make_trial: Callable[..., TrialRun],
) -> None:
    rates = (2.5e-4, 1.5e-4, 2e-4)
    crossed = [
        Observation(
            make_trial(), "0", layers, blocks, 16.0, rate, "nf4", Measurement("eval", 60, {"exact_match": rate})
        )
        for rate in rates
        for layers in (1, 2)
        for blocks in (0, 3)
    ]
    found = placement_means(crossed, "exact_match")
    assert found is not None and found.means == ((2e-4, 2e-4), (2e-4, 2e-4)), "not the first, nor a mixture of rates"
    assert found.where == "rank 16, rate 0.0002, nf4; as many trials have rate 0.00015 or rate 0.00025"

"""Tests the contrasts of a linear model against certified values, scipy and simulated trials."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import linregress, ttest_ind

from analysis.effects.contrasts import contrast
from analysis.effects.design import INTERACTION, Design, Observation, level_design, linear_design
from analysis.effects.design import LANGUAGE as LANGUAGE_FACTOR
from analysis.mlflow_runs import TrialRun
from trainables.probes.metric import RowResults
from trainables.record import Measurement

Observe = Callable[..., Observation]

# Longley (1967); certified by the NIST Statistical Reference Datasets
LONGLEY = np.array([
    [60323, 83.0, 234289, 2356, 1590, 107608, 1947], [61122, 88.5, 259426, 2325, 1456, 108632, 1948],
    [60171, 88.2, 258054, 3682, 1616, 109773, 1949], [61187, 89.5, 284599, 3351, 1650, 110929, 1950],
    [63221, 96.2, 328975, 2099, 3099, 112075, 1951], [63639, 98.1, 346999, 1932, 3594, 113270, 1952],
    [64989, 99.0, 365385, 1870, 3547, 115094, 1953], [63761, 100.0, 363112, 3578, 3350, 116219, 1954],
    [66019, 101.2, 397469, 2904, 3048, 117388, 1955], [67857, 104.6, 419180, 2822, 2857, 118734, 1956],
    [68169, 108.4, 442769, 2936, 2798, 120445, 1957], [66513, 110.8, 444546, 4681, 2637, 121950, 1958],
    [68655, 112.6, 482704, 3813, 2552, 123366, 1959], [69564, 114.2, 502601, 3931, 2514, 125368, 1960],
    [69331, 115.7, 518173, 4806, 2572, 127852, 1961], [70551, 116.9, 554894, 4007, 2827, 130081, 1962],
])  # fmt: skip
CERTIFIED = {  # coefficient, standard error
    "x1": (15.0618722713733, 84.9149257747669),
    "x2": (-0.0358191792925910, 0.0334910077722432),
    "x3": (-2.02022980381683, 0.488399681651699),
    "x4": (-1.03322686717359, 0.214274163161675),
    "x5": (-0.0511041056535807, 0.226073200069370),
    "x6": (1829.15146461355, 455.478499142212),
}
T_9 = 2.2621571627409915  # of 9 degrees of freedom at 95 %


@pytest.fixture
def observe(make_trial: Callable[..., TrialRun]) -> Observe:
    """Build an observation; `rows` are the results of the metric by row."""

    def make(value: float = 0.0, rows: np.ndarray | None = None, **changes) -> Observation:
        by_row = {} if rows is None else {"m": RowResults({f"r{n}": float(one) for n, one in enumerate(rows)})}
        mean = value if rows is None else float(np.mean(rows))
        where = {"seed": "0", "language": 2, "vision": 2, "rank": 16.0, "rate": 2e-4, "quantization": "none"}
        return Observation(make_trial(), **(where | changes), last=Measurement("eval", 60, {"m": mean}, {}, by_row))

    return make


def test_coefficients_and_errors_are_the_certified_ones(observe: Observe) -> None:
    names = ("mean", *CERTIFIED)
    design = Design(names, np.column_stack([np.ones(16), LONGLEY[:, 1:] - LONGLEY[:, 1:].mean(axis=0)]), {})
    among = [observe(value) for value in LONGLEY[:, 0]]
    for name, (coefficient, error) in CERTIFIED.items():
        found = contrast(design, {name: 1.0}, "m", among)
        assert found.mean == pytest.approx(coefficient, rel=1e-6)
        assert found.seeds_half == pytest.approx(error * T_9, rel=1e-6)


def test_one_factor_is_a_regression_of_scipy(observe: Observe) -> None:
    draws = np.random.default_rng(0)
    depth = [1, 2, 3, 4] * 3
    among = [observe(0.1 * d + draws.normal(0, 0.02), language=d) for d in depth]
    design = linear_design(among)
    found = contrast(design, {"language": 1.0}, "m", among)
    expected = linregress(depth, [one.last.metrics["m"] for one in among])
    assert found.mean == pytest.approx(expected.slope)
    assert (found.high - found.mean) / 2.228138851964939 == pytest.approx(expected.stderr, rel=1e-6)


def test_two_levels_are_a_t_test_of_scipy(observe: Observe) -> None:
    low, high = [0.61, 0.66, 0.64, 0.60], [0.71, 0.75, 0.69, 0.72]
    among = [observe(value, language=2) for value in low] + [observe(value, language=4) for value in high]
    found = contrast(level_design(LANGUAGE_FACTOR, among), {"language 4": 1.0}, "m", among)
    expected = ttest_ind(high, low).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_seeds_are_blocks(observe: Observe) -> None:
    """A seed that shifts every arm by 0.3 must not widen the interval of a depth."""
    among = [
        observe(0.1 * depth + 0.3 * seed + 0.001 * (depth + seed) ** 2, language=depth, seed=str(seed))
        for depth in (1, 2, 3, 4)
        for seed in range(3)
    ]
    found = contrast(linear_design(among), {"language": 1.0}, "m", among)
    assert found.mean == pytest.approx(0.1, abs=0.01)
    assert found.seeds_half is not None and found.seeds_half < 0.01


def test_the_interaction_is_what_was_planted(observe: Observe) -> None:
    among = [
        observe(0.05 * depth - 0.02 * blocks + 0.03 * depth * blocks, language=depth, vision=blocks)
        for depth in (1, 2, 3, 4)
        for blocks in (0, 2, 4)
    ]
    assert contrast(linear_design(among), {INTERACTION: 1.0}, "m", among).mean == pytest.approx(0.03)


def test_settings_that_vary_together_are_not_told_apart(observe: Observe) -> None:
    among = [observe(0.1 * depth, language=depth, vision=6 - depth) for depth in (2, 4, 2, 4)]
    design = linear_design(among)
    assert not design.can_tell({"language": 1.0}) and not design.can_tell({"vision": 1.0})
    crossed = [observe(0.1, language=depth, vision=blocks) for depth in (2, 4) for blocks in (0, 2)]
    assert linear_design(crossed).can_tell({"language": 1.0})
    assert not linear_design(crossed).can_tell({"rate": 1.0})


@pytest.mark.slow
def test_rows_and_seeds_both_widen_the_interval_and_it_covers(observe: Observe) -> None:
    """Over 300 simulated studies of 12 trials on 40 shared rows, the 95 % interval covers the true slope."""
    draws = np.random.default_rng(4)
    true, covered, by_seeds_alone = 0.08, 0, 0
    for _ in range(300):
        hard, steep = draws.normal(0, 0.3, 40), draws.normal(0, 0.25, 40)  # rows differ in the slope too
        among = []
        for depth in (1, 2, 3, 4) * 3:
            results = hard + (true + steep) * depth + draws.normal(0, 0.1) + draws.normal(0, 0.2, 40)
            among.append(observe(rows=results, language=depth))
        found = contrast(linear_design(among), {"language": 1.0}, "m", among)
        covered += found.low <= true <= found.high
        by_seeds_alone += abs(found.mean - true) <= (found.seeds_half or 0.0)
    assert 0.93 <= covered / 300 <= 0.99
    assert by_seeds_alone / 300 < 0.85

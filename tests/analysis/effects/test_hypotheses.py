"""Tests the answers to the hypotheses on simulated studies in which each of them is true, false or out of reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.compare.difference import Difference
from analysis.effects.design import Observation
from analysis.effects.hypotheses import Judgement, answers_of, outcome_of
from analysis.effects.importance import importances
from analysis.mlflow_runs import TrialRun
from trainables.probes.metric import hits
from trainables.record import Measurement

Law = Callable[[int, int, float], float]
Simulate = Callable[..., list[Observation]]
DEPTHS, BLOCKS, RATES, ROWS = (1, 2, 3, 4), (0, 2, 4, 6), (1.5e-4, 2e-4, 2.5e-4), 200


@pytest.fixture
def simulate(make_trial: Callable[..., TrialRun]) -> Simulate:
    """Simulate a crossed study; each law gives the chance of a right answer from depth, blocks and rate."""

    def make(
        fit: Law, passes: Law, text: Law, seeds: int = 3, blocks: Iterable[int] = BLOCKS, rates: Sequence[float] = RATES
    ) -> list[Observation]:  # fmt: skip
        draws, found = np.random.default_rng(7), []
        hard = {name: draws.random(ROWS) for name in ("exact_match", "irrelevant_pass", "text_retention")}
        laws = {"exact_match": fit, "irrelevant_pass": passes, "text_retention": text}
        for seed in range(seeds):
            for depth in DEPTHS:
                for block in blocks:
                    for rate in rates:
                        rows = {
                            name: hits(
                                {
                                    f"{name}{n}": bool(limit < laws[name](depth, block, rate) + draws.normal(0, 0.02))
                                    for n, limit in enumerate(hard[name])
                                }
                            )
                            for name in laws
                        }
                        metrics = {name: one.mean for name, one in rows.items()}
                        last = Measurement("eval", 60, metrics, {}, rows)
                        found.append(Observation(make_trial(), str(seed), depth, block, 16.0, rate, "none", last))
        return found

    return make


def flat(_: int, __: int, ___: float) -> float:
    return 0.9


def by_part(answers: Iterable[Judgement]) -> dict[tuple[str, str], str]:
    return {(one.hypothesis, one.part): one.outcome for one in answers}


def test_effects_that_were_planted_are_found(simulate: Simulate) -> None:
    """Pass falls with depth, retention does not; fit and pass together are best at two layers; the rate does little."""
    among = simulate(
        fit=lambda depth, blocks, rate: 0.5 + 0.25 * (depth >= 2) + 0.02 * (rate / 2e-4 - 1),
        passes=lambda depth, blocks, rate: 0.98 - 0.12 * (depth - 1) * (depth > 2),
        text=flat,
    )
    found = by_part(answers_of(among, (), "exact_match"))
    assert found["H1", "irrelevant_pass"] == "supported"
    assert found["H1", "text_retention"] == "contradicted"
    assert found["H2", "language"] == "supported"
    assert found["H2", "vision"] != "supported"  # no depth of this tower makes a difference
    assert found["H3", "exact_match"] == "supported"
    assert found["H3", "text_retention"] == "contradicted"
    assert found["H4", "irrelevant_pass"] == "undecided"


def test_a_rise_of_what_should_be_low_is_a_cost(simulate: Simulate) -> None:
    """Hallucination is better when lower, so the same numbers as of the pass say the opposite."""
    falling = lambda depth, blocks, rate: 0.9 - 0.2 * (depth - 1)  # noqa: E731
    among = [
        replace(one, last=replace(one.last, metrics=renamed(one.last.metrics), rows=renamed(one.last.rows)))
        for one in simulate(flat, flat, falling, rates=(2e-4,))
    ]
    assert by_part(answers_of(among, (), "exact_match"))["H1", "hallucination"] == "contradicted"


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {{"text_retention": "hallucination"}.get(name, name): value for name, value in values.items()}


def test_a_rate_that_matters_more_than_placement_contradicts(simulate: Simulate) -> None:
    among = simulate(lambda depth, blocks, rate: 0.2 + 0.01 * depth + 0.4 * (rate / 1.5e-4 - 1), flat, flat)
    assert by_part(answers_of(among, (), "exact_match"))["H3", "exact_match"] == "contradicted"
    found = importances("exact_match", among)
    assert found["rate"] == max(found.values()) and sum(found.values()) == pytest.approx(1)


def test_a_study_that_cannot_tell_says_what_would(simulate: Simulate) -> None:
    among = simulate(flat, flat, flat, blocks=(2,), rates=(2e-4,))
    answers = {(one.hypothesis, one.part): one for one in answers_of(among, (), "exact_match")}
    for key in (("H2", "vision"), ("H3", "exact_match")):
        assert answers[key].found is None
        assert "footprint response --seeds 5" in answers[key].what_decides
    assert "footprint continuation --init-from STABLE" in answers["H4", "exact_match"].what_decides


def test_rates_of_a_factor_of_four_are_not_modest(simulate: Simulate) -> None:
    among = simulate(flat, flat, flat, rates=(1e-4, 4e-4))
    answers = {(one.hypothesis, one.part): one for one in answers_of(among, (), "exact_match")}
    assert "rates within a factor of 2" in answers["H3", "exact_match"].what_decides


def test_an_undecided_answer_names_rows_or_seeds(simulate: Simulate) -> None:
    among = simulate(flat, lambda depth, blocks, rate: 0.9 - 0.008 * depth, flat, seeds=2)
    answers = {(one.hypothesis, one.part): one for one in answers_of(among, (), "exact_match", margin=0.001)}
    undecided = [one for one in answers.values() if one.outcome == "undecided" and one.found is not None]
    assert undecided
    assert all("rows" in one.what_decides or "seeds" in one.what_decides for one in undecided)


@pytest.mark.parametrize(
    ("low", "high", "expected", "outcome"),
    [
        (-0.30, -0.01, -1, "supported"),
        (-0.30, 0.01, -1, "undecided"),
        (-0.049, 0.30, -1, "contradicted"),
        (-0.051, 0.30, -1, "undecided"),
        (0.01, 0.30, 1, "supported"),
        (-0.30, 0.049, 1, "contradicted"),
    ],
)
def test_an_answer_changes_where_the_interval_meets_zero_or_the_margin(
    low: float, high: float, expected: int, outcome: str
) -> None:
    middle = (low + high) / 2
    found = Difference(middle, 0.0, low, high, 0.5, 48, 3, 3, 0.1, 0.1)
    assert outcome_of(found, expected, margin=0.05) == outcome

"""Tests when a pick counts as settled, and whether seeds or rows are named as what limits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from analysis.candidates import Candidate, SeedEval
from analysis.decision.evidence import Contender, DrawnCandidates, evidence
from analysis.mlflow_runs import TrialRun
from analysis.seeds.advice import Advice, advise, sentences
from trainables.constraint import CONSTRAINT
from trainables.pareto import parse_objectives
from trainables.probes.metric import hits
from trainables.record import Measurement

FIT, _ = parse_objectives(("exact_match", "irrelevant_pass"))
Make = Callable[..., DrawnCandidates]


@pytest.fixture
def made(make_trial: Callable[..., TrialRun]) -> Make:
    """Build the evidence of arms; each has the rates of fit and pass of its seeds, on so many rows."""

    def measured(fit: float, passes: float, rows: int, draws: np.random.Generator) -> Measurement:
        found = {
            "exact_match": hits({f"v{n}": bool(draws.random() < fit) for n in range(rows)}),
            "irrelevant_pass": hits({f"p{n}": n < round(passes * rows) for n in range(rows)}),
            "hallucination": hits({f"p{n}": False for n in range(rows)}),
        }
        return Measurement("eval", 60, {name: one.mean for name, one in found.items()}, {}, found)

    def make(rows: int = 64, **arms: Sequence[tuple[float, float]]) -> DrawnCandidates:
        draws = np.random.default_rng(0)

        def candidate(arm: str, seeds: Sequence[tuple[float, float]]) -> Candidate:
            evals = [SeedEval(make_trial(arm), str(n), measured(*one, rows, draws)) for n, one in enumerate(seeds)]
            return Candidate(arm, 60, "1", tuple(evals))

        baseline = candidate("A0", [(0.0, 1.0)])
        contenders = [Contender(candidate(arm, seeds), baseline, 1.0) for arm, seeds in arms.items()]
        return evidence(contenders, ("exact_match", "irrelevant_pass"), CONSTRAINT)

    return make


def test_a_pick_that_is_far_ahead_is_settled(made: Make) -> None:
    found = advise(made(400, C2=[(0.9, 1.0)] * 3, A1=[(0.3, 1.0)] * 3), 0, FIT, CONSTRAINT)
    assert found.limit == "settled"
    assert found.changes < 0.02
    assert "no arm deserves more seeds" in " ".join(sentences(found, {"exact_match": 400}))


def test_many_rows_and_scattered_seeds_ask_for_seeds_of_the_two_that_are_close(made: Make) -> None:
    arms = {"C2": [(0.60, 1.0), (0.72, 1.0)], "D1": [(0.75, 1.0), (0.60, 1.0)], "A1": [(0.2, 1.0)] * 2}
    found = advise(made(4000, **arms), 0, FIT, CONSTRAINT, margin=0.02)
    assert found.limit == "seeds"
    assert {one.arm for one in found.arms} == {"C2", "D1"}
    assert found.with_seeds < found.changes
    assert found.seeds is None or found.seeds > 2


def test_few_rows_are_named_as_the_limit_whatever_the_seeds(made: Make) -> None:
    """Ten seeds on 24 rows: more seeds cannot tell whether the pass rate on other rows is within ten points."""
    found = advise(made(24, C2=[(0.7, 0.92)] * 10, A1=[(0.55, 1.0)] * 10), 0, FIT, CONSTRAINT)
    assert found.limit == "rows"
    text = " ".join(sentences(found, {"exact_match": 24, "irrelevant_pass": 24}))
    assert "Rows, not seeds, limit you" in text and "24 of irrelevant_pass" in text


def test_neither_is_named_where_another_pick_comes_with_endless_rows_or_seeds(made: Make) -> None:
    """A pick that a better arm beats however much is measured: more of neither settles this pick."""
    found = advise(made(64, A1=[(0.2, 1.0)] * 3, C2=[(0.7, 0.95)] * 3), 0, FIT, CONSTRAINT)
    assert min(found.with_seeds, found.with_rows) > 0.9 * found.changes
    assert found.limit == "both"
    text = " ".join(sentences(found, {"exact_match": 64}))
    assert "Rows, not seeds" not in text and "Neither is enough alone" in text


def test_without_a_pick_nothing_is_said_to_be_the_only_limit(made: Make) -> None:
    """Seeds that scatter widely on many rows: rows alone would not help, and seeds alone are not shown to."""
    found = advise(made(2000, C2=[(0.7, 0.85), (0.7, 0.975), (0.7, 0.9995)]), None, FIT, CONSTRAINT)
    assert found.limit == "both"
    text = " ".join(sentences(found, {"irrelevant_pass": 2000}))
    assert "Nothing is picked yet" in text and "limit you" not in text


def test_without_a_pick_the_arm_that_may_meet_the_constraint_is_named(made: Make) -> None:
    found = advise(made(64, C2=[(0.7, 0.90)] * 2, D1=[(0.8, 0.5)] * 2), None, FIT, CONSTRAINT)
    assert found.picked is None
    assert [one.arm for one in found.arms] == ["C2"]


def test_a_probability_above_what_is_accepted_is_not_shown_as_accepted() -> None:
    advice = Advice("C2 @ 60", 0.1004, 0.0996, 0.1004, "seeds", (), 5)
    assert sentences(advice, {"exact_match": 64})[:2] == [
        "The pick is C2 @ 60; more data would change that with probability 0.1004.",
        "Any number of seeds would leave 0.10, any number of rows 0.1004.",
    ]


def test_the_advice_says_its_numbers() -> None:
    advice = Advice("C2 @ 60", 0.4, 0.1, 0.39, "seeds", (), 5)
    assert sentences(advice, {"exact_match": 64}) == [
        "The pick is C2 @ 60; more data would change that with probability 0.40.",
        "Any number of seeds would leave 0.10, any number of rows 0.39.",
        "Seeds limit you.",
    ]

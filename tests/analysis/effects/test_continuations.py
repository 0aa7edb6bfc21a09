"""Tests which continued trials are a pair, and what their changes show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analysis.effects.continuations import changes, continued_pairs
from analysis.effects.hypotheses import outcome_of
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from trainables.probes.metric import hits, scores
from trainables.record import Measurement

Trials = Callable[..., tuple[ExperimentRuns, dict[str, list[Measurement]]]]
ROWS = 40


def measured(step: int, passes: int) -> Measurement:
    right = hits({f"i{n}": n < passes for n in range(ROWS)})
    wrong = hits({f"i{n}": n >= passes for n in range(ROWS)})
    found = scores({"irrelevant_pass": right, "hallucination": wrong, "exact_match": right})
    return Measurement("eval", step, found.metrics, found.counts, found.rows)


@pytest.fixture
def trials(make_trial, make_baseline, make_experiment) -> Trials:
    """Build an experiment of continued trials; each is (arm, seed, passes at first, passes at last)."""

    def make(*continued: tuple[str, int, int, int]) -> tuple[ExperimentRuns, dict[str, list[Measurement]]]:
        base: TrialRun = make_baseline()
        evals = {base.run_id: [measured(0, ROWS)]}
        found = [base]
        for arm, seed, first, last in continued:
            one = make_trial(f"{arm}-s{seed}", arm=arm, parameters={"seed": seed})
            found.append(one)
            evals[one.run_id] = [measured(0, first), measured(30, last - 1), measured(60, last)]
        return make_experiment(*found), evals

    return make


def test_a_pair_is_one_parent_within_the_constraint_and_one_outside(trials: Trials) -> None:
    experiment, evals = trials(
        ("C2", 0, 40, 38), ("C2-restart", 0, 30, 20),
        ("C2", 1, 36, 36), ("C2-restart", 1, 35, 30),  # 36 of 40 is the limit
        ("C2", 2, 39, 38), ("C2-restart", 2, 38, 30),  # both kept it
        ("C2", 3, 40, 40),  # has no other
    )  # fmt: skip
    pairs = continued_pairs(experiment, evals)
    assert [(one.stable.trial.name, one.lost.trial.name) for one in pairs] == [
        ("C2-s0", "C2-restart-s0"),
        ("C2-s1", "C2-restart-s1"),
    ]


def test_a_trial_from_the_base_is_no_continuation(trials: Trials) -> None:
    experiment, evals = trials(("C2", 0, 40, 38), ("C2-restart", 0, 30, 20))
    without_start = {run: [one for one in of if one.step > 0] or of for run, of in evals.items()}
    assert continued_pairs(experiment, without_start) == ()


def test_what_the_lost_parent_loses_more_is_the_contrast(trials: Trials) -> None:
    planted = [("C2", seed, 40, 39 + seed % 2) for seed in range(5)]
    planted += [("C2-restart", seed, 30, 10 + seed % 2) for seed in range(5)]
    pairs = continued_pairs(*trials(*planted))
    stable, more = changes(pairs, "irrelevant_pass")
    assert stable.mean == pytest.approx(-0.6 / 40)
    assert more.mean == pytest.approx(-19 / 40)  # each lost one falls by 20, less 1 where its stable one does
    assert (more.seeds_a, more.rows) == (5, 40)
    assert outcome_of(more, -1) == "supported"


def test_one_pair_decides_nothing(trials: Trials) -> None:
    pairs = continued_pairs(*trials(("C2", 0, 40, 38), ("C2-restart", 0, 30, 10)))
    _, more = changes(pairs, "irrelevant_pass")
    assert more.low == float("-inf")

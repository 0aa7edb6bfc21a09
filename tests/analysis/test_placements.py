"""Tests how trials are grouped into placements, and which ones are compared."""

from __future__ import annotations

import math

import pytest

from analysis.objectives import frontier_objectives
from analysis.placements import placements_of, seed_run_of
from trainables.errors import UserError


def test_trials_that_differ_in_the_seed_alone_are_one_placement(make_trial, make_experiment, objectives):
    trials = [make_trial(f"C2-s{seed}", parameters={"seed": seed}) for seed in range(3)]
    other = make_trial("C2-r8", parameters={"rank": 8})
    placements = placements_of(make_experiment(*trials, other), objectives)
    assert [(one.label, len(one.seed_runs)) for one in placements] == [("C2 r16", 3), ("C2 r8", 1)]


def test_arms_with_equal_parameters_are_separate_placements(make_trial, make_experiment, objectives):
    """An arm that starts from another checkpoint has the same logged parameters."""
    placements = placements_of(make_experiment(make_trial("C2-s0"), make_trial("C2again-s1")), objectives)
    assert [one.label for one in placements] == ["C2", "C2again"]


def test_two_trials_of_one_seed_are_not_two_seeds(make_trial, make_experiment, objectives):
    trials = [make_trial("C2-a", y=0.2, trial_id="aaaaaaaa"), make_trial("C2-b", y=0.9, trial_id="bbbbbbbb")]
    placements = placements_of(make_experiment(*trials), objectives)
    assert [(one.label, len(one.seed_runs)) for one in placements] == [("C2 #aaaaaa", 1), ("C2 #bbbbbb", 1)]


def test_the_baseline_is_known_by_its_layers_or_by_the_launch(make_trial, make_baseline, make_experiment, objectives):
    named = make_trial("Z9", trial_id="named", parameters={})
    experiment = make_experiment(make_baseline(), named, make_trial(), baseline_ids=frozenset({"named"}))
    baselines = [one.label for one in placements_of(experiment, objectives) if one.is_baseline]
    assert baselines == ["A0", "Z9"]


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, "admissible", ""),
        ({"best": {}}, "excluded", "no eval met the constraint"),
        ({"best": {"irrelevant_pass": 1.0}}, "excluded", "`best/exact_match` was not logged"),
        (
            {"best": {"irrelevant_pass": 1.0, "exact_match": math.nan}},
            "excluded",
            "`best/exact_match` must be finite, but is nan",
        ),
        (
            {"best": {"irrelevant_pass": math.inf, "exact_match": 0.5}},
            "excluded",
            "`best/irrelevant_pass` must be finite, but is inf",
        ),
        ({"verdict": None, "verdict_kind": None, "run_status": "RUNNING"}, "running", "running"),
        (
            {"verdict": None, "verdict_kind": None, "run_status": "FAILED"},
            "excluded",
            "ended without a verdict (run status FAILED)",
        ),
        (
            {"verdict": "failed(OSError)", "verdict_kind": "failed", "verdict_reason": "disk full", "best": {}},
            "excluded",
            "failed(OSError): disk full",
        ),
        (
            {"verdict": "pruned(hallucination)", "verdict_kind": "pruned", "verdict_reason": "rose"},
            "excluded",
            "pruned(hallucination): rose (step 60 still met the constraint: exact_match 0.9)",
        ),
    ],
)
def test_a_trial_is_admissible_or_has_a_reason(make_trial, objectives, changes, state, reason):
    seed_run = seed_run_of(make_trial(**changes), objectives)
    assert (seed_run.state, seed_run.reason) == (state, reason)


def test_a_price_is_that_of_the_whole_trial_and_the_baselines_is_zero(make_trial, make_baseline):
    objectives = frontier_objectives("irrelevant_pass", "exact_match", ["adapter_parameters"])
    assert seed_run_of(make_trial(), objectives).values[2] == 1000.0
    baseline = seed_run_of(make_baseline(), objectives, is_baseline=True)
    assert (baseline.state, baseline.values[2]) == ("admissible", 0.0)


@pytest.mark.parametrize(
    ("further", "expected"),
    [
        (["irelevant_pass"], "did you mean `irrelevant_pass`?"),
        (["eval_loss:lowr"], "--objective must be NAME, NAME:higher or NAME:lower"),
        (["exact_match"], "given once, but got `exact_match` 2 times by --y and --objective"),
    ],
)
def test_an_objective_that_cannot_be_read_is_refused_with_its_option(further, expected):
    with pytest.raises(UserError, match=r"objective") as caught:
        frontier_objectives("irrelevant_pass", "exact_match", further)
    assert expected in str(caught.value)


def test_mixes_of_an_arm_are_placements_of_their_own(make_trial, make_experiment, objectives):
    """A run of an earlier version, which logs no replay, is a seed of the arm without replay."""

    def trial(name, seed, ratio=None, replay="none"):
        logged = {} if ratio is None else {"replay_ratio": ratio, "replay": replay}
        return make_trial(name, trial_id=name, parameters={"seed": seed, **logged})

    plain = [trial("C2-s0", 0), trial("C2-s1", 1, 0.0)]
    tenth = [trial("C2-s0-mix0.1", 0, 0.1, "a.jsonl@1"), trial("C2-s1-mix0.1", 1, 0.1, "a.jsonl@1")]
    other = [trial("C2-s0-mix0.1-b", 0, 0.1, "b.jsonl@2")]

    def labels(*trials):
        return [(one.label, len(one.seed_runs)) for one in placements_of(make_experiment(*trials), objectives)]

    assert labels(*plain, *tenth) == [("C2", 2), ("C2 mix 0.1", 2)]
    assert labels(*tenth, *other) == [("C2 of a.jsonl@1", 2), ("C2 of b.jsonl@2", 1)]
    assert labels(*plain) == [("C2", 2)]

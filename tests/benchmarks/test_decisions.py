"""Tests the simulated sweeps, the measures taken on them, and that the page says where the bar is missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from benchmarks.decision_changes import changes
from benchmarks.decision_measure import Measured, calibrate, regret
from benchmarks.decision_oracle import oracle, prior
from benchmarks.decision_page import misses, out_of_reach, page
from benchmarks.decision_rules import conclude, pick_before, pick_now, said, true
from benchmarks.decision_worlds import LIMIT, SIZES, world
from benchmarks.pareto_scale import Scale

SCALE = Scale(1.0, 1.0, 1.0, 100.0)


def test_a_world_is_the_same_again_and_its_rows_tell_its_truth() -> None:
    one, same = (world(np.random.default_rng(4), 200) for _ in range(2))
    assert (one.fit_rows.values == same.fit_rows.values)[:-1].all()
    means = np.nanmean(one.fit_rows.values[:-1], axis=(1, 2))
    assert np.corrcoef(means, one.fit[:-1])[0, 1] > 0.95
    assert (one.fit[-1], one.generality[-1]) == (0.0, 1.0)


def test_evals_of_a_trial_learn_and_lose() -> None:
    one = world(np.random.default_rng(5), 3, evals=4)
    by_eval = one.fit[:-1].reshape(len(SIZES), 4)
    assert (np.diff(by_eval, axis=1) > 0).all()
    assert (np.diff(one.generality[:-1].reshape(len(SIZES), 4), axis=1) <= 0).all()


@pytest.mark.parametrize("constrained", [False, True])
def test_many_rows_leave_no_doubt_of_the_frontier(constrained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of rows and many seeds what is said nears the truth; arms that nearly tie stay in doubt."""
    monkeypatch.setattr("benchmarks.decision_worlds.FIT_ROWS", 4000)
    monkeypatch.setattr("benchmarks.decision_worlds.PASS_ROWS", 4000)
    generator = np.random.default_rng(6)
    one = world(generator, 40)
    stated, truth = said(conclude(one, generator), constrained), true(one, constrained)
    sure = np.abs(stated - 0.5) > 0.45
    assert sure.sum() >= len(sure) / 2
    assert ((stated > 0.5) == truth)[sure].all()


def test_the_oracle_knows_how_sure_it_may_be() -> None:
    """Its 95 % intervals hold the truth, and it errs less than the means do, which know neither trend nor noise."""
    held, errors = [], {"oracle": [], "means": []}
    for number in range(60):
        one = world(np.random.default_rng([9, number]), 2)
        fit = oracle(one, np.random.default_rng([10, number])).fit[:, :-1]
        low, high = np.quantile(fit, (0.025, 0.975), axis=0)
        held.append((low <= one.fit[:-1]) & (one.fit[:-1] <= high))
        errors["oracle"].append((fit.mean(axis=0) - one.fit[:-1]) ** 2)
        errors["means"].append((one.fit_rows.values[:-1].mean(axis=(1, 2)) - one.fit[:-1]) ** 2)
    assert 0.92 < np.mean(held) < 0.98
    assert np.mean(errors["oracle"]) < 0.8 * np.mean(errors["means"])
    mean, _, most = prior()
    assert mean.shape == (2, len(SIZES)) and (most <= 1.0).all()


def test_the_pick_breaks_the_constraint_less_often_than_the_rule_before() -> None:
    broken = {"now": 0, "before": 0}
    for number in range(30):
        generator = np.random.default_rng([8, number])
        one = world(generator, 1, evals=4)
        for name, found in (("now", pick_now(one, conclude(one, generator))), ("before", pick_before(one))):
            broken[name] += found is not None and bool(one.seed_generality[found] < LIMIT)
    assert broken["now"] < broken["before"]


def test_a_pick_that_is_said_to_change_does_so_more_often() -> None:
    found = changes(40, 3, finalists=False)
    assert sum(one.cases for one in found) == 40
    assert all(one.low <= one.said <= one.high for one in found)
    assert found[-1].true > found[0].true


def test_the_page_names_every_miss_of_the_bar() -> None:
    calibrations, coverages, regrets = [], [], []
    for seeds in (1, 2, 3, 5):
        found, covered = calibrate(4, seeds)
        calibrations += found
        coverages += covered
        regrets += regret(2, seeds)
    measured = Measured(4, tuple(calibrations), tuple(coverages), tuple(regrets), tuple(changes(2, 3, finalists=True)))
    text = page(measured, SCALE, "2 cores", date(2026, 11, 28))
    assert "on 4 simulated sweeps" in text and "wrote it on 2026-11-28" in text
    assert text.count("\n### ") == 4
    assert text.count("| log loss |") == 4
    for line in misses(measured):
        assert f"- {line}" in text
    bad = replace(measured.calibrations[-1], estimator="pooled", seeds=5, log_loss=0.9)
    assert "5 seeds, with the constraint: log loss 0.900, above 0.45." in misses(replace(measured, calibrations=(bad,)))
    assert out_of_reach(replace(measured, calibrations=(replace(bad, estimator="oracle"),))) == [
        "5 seeds with the constraint"
    ]
    assert not any("log loss" in one for one in misses(replace(measured, calibrations=(replace(bad, log_loss=0.45),))))

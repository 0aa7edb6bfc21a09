"""Tests the chart as plain values."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.charts.chart import Chart, chart_of, staircase
from analysis.frontier import frontier_info
from analysis.objectives import frontier_objectives


def test_every_measured_placement_is_a_mark_and_nothing_else_is(crowded: Chart):
    assert sorted(mark.label.split()[0] for mark in crowded.marks) == ["A0", *(f"B{i}" for i in range(6)), "C2", "D3"]
    assert {mark.kind for mark in crowded.marks} == {"frontier", "baseline", "dominated", "excluded"}
    assert len(crowded.seeds) == 3
    assert [one.value for one in crowded.limits] == [0.8]


def test_error_bars_are_the_seeds(crowded: Chart):
    spans = {mark.label.split()[0]: mark.spans for mark in crowded.marks}
    assert spans["C2"] is not None
    assert spans["C2"][1] == pytest.approx((0.90, 0.92))
    assert spans["B1"] is None


def test_a_third_objective_draws_no_line(make_trial, make_baseline, make_experiment):
    experiment = make_experiment(make_baseline(), make_trial("C2"), make_trial("B1", 1.0, 0.4))
    two = frontier_info(experiment, frontier_objectives("irrelevant_pass", "exact_match", ()))
    three = frontier_info(experiment, frontier_objectives("irrelevant_pass", "exact_match", ["adapter_parameters"]))
    assert chart_of(two).step == ((1.0, 0.4), (0.95, 0.4), (0.95, 0.9))
    assert chart_of(three).step == ()


def test_the_staircase_turns_at_the_worse_of_both_neighbours():
    corners = staircase(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [1.0, 1.0]]))
    assert corners.tolist() == [[0, 2], [1, 2], [1, 1], [2, 1], [2, 0]]

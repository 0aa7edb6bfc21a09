"""A chart for the tests of the drawers."""

from __future__ import annotations

import math

import pytest

from analysis.charts.chart import Chart, chart_of
from analysis.frontier import frontier_info


@pytest.fixture
def crowded(make_trial, make_baseline, make_experiment, objectives) -> Chart:
    """A chart of every kind of mark, six of them close together."""
    reason = {"verdict_reason": "too low", "verdict_cause": "irrelevant_pass", "verdict_limit": 0.8}
    stopped = {"verdict": "pruned(irrelevant_pass)", "verdict_kind": "pruned", "best": {}} | reason
    trials = [make_trial(f"C2-s{i}", 0.95, 0.9 + i / 100, parameters={"seed": i}) for i in range(3)]
    trials += [make_trial(f"B{i}", 1.0, 0.3 + i / 1000) for i in range(6)]
    trials += [make_trial("D3", 0.4, 0.6, **stopped), make_trial("D4", math.nan, 0.6, **stopped)]
    return chart_of(frontier_info(make_experiment(make_baseline(), *trials), objectives))

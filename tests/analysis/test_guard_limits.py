"""Tests the guard's limit in the chart, which is read from verdicts as a number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.charts.chart import chart_of
from analysis.frontier import frontier_info
from analysis.guard_limits import guard_limit
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from trainables.decision import Guard
from trainables.guards import Ceiling, Fall, Floor, described
from trainables.io.files import write_json

NAME = "irrelevant_pass"
FLOOR = Floor(NAME, max_relative_drop=0.2, min_absolute=0.0, patience_evals=2)

Make = Callable[..., TrialRun]
Together = Callable[..., ExperimentRuns]


def stopped(make_trial: Make, name: str, cause: str = NAME, limit: float | None = None, **changes: object) -> TrialRun:
    ended = {"verdict": f"pruned({cause})", "verdict_kind": "pruned", "verdict_cause": cause, "best": {}}
    return make_trial(name, **ended, verdict_limit=limit, **changes)


@pytest.mark.parametrize(
    ("ends", "limit"),
    [
        ([(NAME, 0.8)], 0.8),
        ([(NAME, 0.8), (NAME, 0.8)], 0.8),
        ([(NAME, 0.8), (NAME, 0.75)], None),
        ([("hallucination", 0.15)], None),
        ([("hallucination", 0.15), (NAME, 0.8)], 0.8),
        ([], None),
    ],
)
def test_the_limit_is_that_of_the_verdicts_when_they_agree(
    make_trial: Make, make_experiment: Together, ends: list[tuple[str, float]], limit: float | None
) -> None:
    trials = [stopped(make_trial, f"D{number}", *end) for number, end in enumerate(ends)]
    assert guard_limit(make_experiment(*trials), NAME) == limit


def test_a_guard_with_a_reason_in_another_language_gets_its_line(
    make_trial: Make, make_baseline: Make, make_experiment: Together, objectives: list
) -> None:
    reason = "Der Anteil liegt mit 0,71 unter der Schwelle"
    trials = [make_baseline(), make_trial(), stopped(make_trial, "D3", limit=0.8, verdict_reason=reason)]
    chart = chart_of(frontier_info(make_experiment(*trials), objectives))
    assert [one.value for one in chart.limits] == [0.8]


def test_a_sentence_alone_draws_no_line(make_trial: Make, make_experiment: Together) -> None:
    output = stopped(make_trial, "D3", verdict_reason="irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)")
    assert guard_limit(make_experiment(output), NAME) is None


@pytest.mark.parametrize(
    ("guards", "limit"),
    [
        ([FLOOR], 0.72),
        ([Ceiling("hallucination", 0.15, 1), FLOOR], 0.72),
        ([Fall(NAME, max_absolute_drop=0.1, patience_evals=2)], None),  # its limit is the trial's own
        ([], None),
    ],
)
def test_a_verdict_of_an_earlier_version_has_the_limit_of_its_study(
    make_trial: Make, make_baseline: Make, make_experiment: Together, tmp_path: Path, guards: list[Guard],
    limit: float | None,
) -> None:  # fmt: skip
    write_json(tmp_path / "study.json", {"guards": [described(guard) for guard in guards]})
    old = stopped(make_trial, "D3", record=str(tmp_path / "trials" / "D3-abc"))
    base = make_baseline(0.9, trial_id="a0")
    found = guard_limit(make_experiment(base, old, baseline_ids=frozenset({"a0"})), NAME)
    assert found == (limit and pytest.approx(limit))


def test_a_study_or_a_baseline_that_is_gone_draws_no_line(
    make_trial: Make, make_baseline: Make, make_experiment: Together, tmp_path: Path
) -> None:
    write_json(tmp_path / "study.json", {"guards": [described(FLOOR)]})
    here, gone = (stopped(make_trial, "D3", record=str(tmp_path / one / "D3-abc")) for one in ("trials", "no/trials"))
    base = make_baseline(0.9, trial_id="a0")
    assert guard_limit(make_experiment(here), NAME) is None
    assert guard_limit(make_experiment(base, gone, baseline_ids=frozenset({"a0"})), NAME) is None

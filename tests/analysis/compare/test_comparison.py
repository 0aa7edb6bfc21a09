"""Tests which rows are compared, and what is said where records do not tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analysis.candidates import Candidate, SeedEval
from analysis.compare.comparison import compare
from analysis.compare.selection import Side
from analysis.compare.tables import conclusions
from analysis.mlflow_runs import TrialRun
from trainables.errors import UserError
from trainables.probes.metric import RowResults, hits
from trainables.record import Measurement

MakeSide = Callable[..., Side]


@pytest.fixture
def side(make_trial: Callable[..., TrialRun]) -> MakeSide:
    """Build one side from the results of its only seed, by row id; None is a record of an earlier version."""

    def make(arm: str, right: dict[str, bool] | None) -> Side:
        rows: dict[str, RowResults] = {} if right is None else {"exact_match": hits(right)}
        measured = Measurement("eval", 60, {"exact_match": 0.5}, {}, rows)
        candidate = Candidate(arm, 60, "1", (SeedEval(make_trial(arm), "0", measured),))
        return Side(arm, candidate, None)

    return make


def test_only_rows_that_both_answered_are_compared_and_this_is_told(side: MakeSide) -> None:
    a = side("A1", {"r1": True, "r2": False, "r3": True, "r4": True})
    b = side("C2", {"r1": False, "r2": False, "r3": True, "r9": True})
    found = compare(a, b, (), "exact_match", {})
    (one,) = found.metrics
    assert (one.found.rows, one.left_out, one.found.a) == (3, 2, pytest.approx(2 / 3))
    assert any("Only the rows that both answered are compared; up to 2" in line for line in conclusions(found))


def test_sides_without_a_row_in_common_are_refused(side: MakeSide) -> None:
    with pytest.raises(UserError, match="must have answered a row in common"):
        compare(side("A1", {"r1": True}), side("C2", {"r2": True}), (), "exact_match", {})


def test_records_without_results_by_row_prove_nothing(side: MakeSide) -> None:
    found = compare(side("A1", None), side("C2", None), (), "exact_match", {})
    assert found.metrics == ()
    assert any("hold no results by row, so nothing can be paired" in line for line in conclusions(found))


def test_one_seed_is_said_to_tell_nothing_of_other_seeds(side: MakeSide) -> None:
    a, b = side("A1", dict.fromkeys("abcd", True)), side("C2", dict.fromkeys("abcd", False))
    found = compare(a, b, (a.candidate, b.candidate), "exact_match", {})
    assert any("not for other seeds of the arms" in line for line in found.unknown)


def test_groups_are_compared_by_themselves(side: MakeSide) -> None:
    a = side("A1", {"d1": True, "d2": True, "c1": True, "x": False})
    b = side("C2", {"d1": False, "d2": False, "c1": True, "x": False})
    found = compare(a, b, (), "exact_match", {"d1": "door", "d2": "door", "c1": "chart"})
    assert [(one.group, one.found.rows, one.found.mean) for one in found.groups] == [
        ("chart", 1, 0.0),
        ("door", 2, 1.0),
    ]

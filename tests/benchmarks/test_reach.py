"""Tests where sharing stops paying, from lines of the FLOP model and measured points."""

from __future__ import annotations

import pytest

from benchmarks.reach_page import last_depth, last_doubling, measured

POINT = {"trials": 4, "depth": 2, "alone": 4.0, "shared": 2.0, "first": 2.5, "kept": 1.0}


def test_ratios_of_a_point_weigh_the_first_epoch_once() -> None:
    assert measured(POINT) == pytest.approx({"shared": 2.0, "epochs": 4.0 / 1.5, "later": 4.0})


def test_more_trials_pay_until_twice_as_many_are_hardly_faster() -> None:
    line = [{"trials": count, "shared": min(count, 6) * 1.0} for count in range(1, 17)]
    assert last_doubling(line, "shared") == 6
    assert last_doubling([{**one, "shared": float(one["trials"])} for one in line], "shared") == 16


def test_sharing_pays_down_to_the_depth_that_still_saves_something() -> None:
    line = [{"depth": depth, "shared": 1 + 1 / depth} for depth in range(1, 41)]
    assert last_depth(line, "shared") == 20
    assert last_depth([{"depth": 1, "shared": 1.0}], "shared") == 0

"""Tests the warnings on probes that cannot tell whether an arm loses generality."""

from __future__ import annotations

import pytest

from trainables.decision import Stop
from trainables.guards import HALLUCINATION_GUARD, PASS_GUARD, TEXT_GUARD, Ceiling
from trainables.measurement import Measurement
from trainables.probes.metric import Proportion, RowResults
from trainables.tested_guards import deciding
from trainables.weak_probes import can_stop, rows_to_stop, weak_probes


def test_none_of_eight_right_is_said_twice_and_a_good_base_on_many_rows_never() -> None:
    low, silent = weak_probes((TEXT_GUARD,), "tested", {"text_retention": Proportion(0, 8)}, 6)
    assert low.metric == silent.metric == "text_retention"
    assert "right on 0 of 8 rows" in str(low) and "footprint data answer" in low.hint
    assert "can stop no arm" in silent.message
    assert weak_probes((TEXT_GUARD,), "tested", {"text_retention": Proportion(100, 112)}, 6) == []


def test_a_rate_that_should_be_low_is_bad_above_a_half_and_task_metrics_are_left_out() -> None:
    counts = {
        "hallucination": Proportion(30, 48),
        "exact_match": Proportion(0, 64),
        "command_only_rate": Proportion(0, 9),
    }
    assert [one.metric for one in weak_probes((), "tested", counts, 6)] == ["hallucination"]
    assert weak_probes((), "tested", {"hallucination": Proportion(3, 48)}, 6) == []


@pytest.mark.parametrize("guard", [TEXT_GUARD, PASS_GUARD, HALLUCINATION_GUARD, Ceiling("dangerous_rate", 0.05, 1)])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13, 21, 34, 60])
@pytest.mark.parametrize("evals", [1, 2, 8])
@pytest.mark.parametrize("reading", ["tested", "exact"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_guard_that_is_said_to_stop_stops_the_worst_arm_and_no_other_does(guard, rows, evals, reading, share) -> None:
    base, worst = round(share * rows), 0.0 if guard in (TEXT_GUARD, PASS_GUARD) else 1.0

    def measured(right: int) -> Measurement:
        values = RowResults({str(one): float(one < right) for one in range(rows)})
        name = guard.metric
        return Measurement("eval", 1, {name: right / rows}, {name: Proportion(right, rows)}, {name: values})

    (tested,) = deciding((guard,), reading, evals)
    stopped = isinstance(tested.decide(measured(base), [measured(round(worst * rows))] * evals), Stop)
    assert stopped == can_stop(guard, reading, Proportion(base, rows), evals)


def test_the_least_rows_are_the_first_that_can_stop_an_arm() -> None:
    least = rows_to_stop(TEXT_GUARD, "tested", 1.0, 6)
    assert least is not None and can_stop(TEXT_GUARD, "tested", Proportion(least, least), 6)
    assert not can_stop(TEXT_GUARD, "tested", Proportion(least - 1, least - 1), 6)
    assert rows_to_stop(TEXT_GUARD, "tested", 0.0, 6) is None

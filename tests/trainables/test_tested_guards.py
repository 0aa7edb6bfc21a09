"""Tests the guards that decide by a test: their limits, their errors over a run, and what they ask for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from trainables.decision import Ask, Continue, Stop
from trainables.guards import GUARDS, Fall, judge
from trainables.hypothesis_tests import (
    binomial_test,
    boundary,
    gap_draws,
    log_likelihood_ratio,
    sequential_test,
    sign_test,
)
from trainables.measurement import GroupFall, Measurement
from trainables.probes.metric import Proportion, RowResults
from trainables.record import Record
from trainables.tested_guards import ASKED_AT_ONCE, as_tests, deciding, rows_to_ask, standings

CORE, ROWS, EVALS = 48, 192, 4
PASS, HALLUCINATION, GAP, CAPTIONS = as_tests(GUARDS, EVALS)


def results(right: int, rows: int, first: int = 0) -> RowResults:
    """As many right as said, evenly among the rows in their order."""
    ends = [number * right // rows for number in range(rows + 1)]
    return RowResults({f"row-{first + number}": float(ends[number + 1] > ends[number]) for number in range(rows)})


def measured(metric: str, right: int, more: tuple[int, int] = (0, 0), step: int = 0) -> Measurement:
    """An eval with `right` of the core, and of the reserve as many right and asked as `more` says."""
    core = results(right, CORE)
    reserve = {metric: results(*more, first=CORE)} if more[1] else {}
    return Measurement("eval", step, {metric: core.mean}, {metric: core.proportion}, {metric: core}, "1", reserve)


BASE = measured("irrelevant_pass", CORE, (ROWS - CORE, ROWS - CORE))
INNOCENT = measured("hallucination", 0, (0, ROWS - CORE))


# ---------------------------------------------------------------- the tests
def test_the_ratio_is_that_of_two_binomials() -> None:
    expected = binom.logpmf(61, 80, 0.75) - binom.logpmf(61, 80, 0.85)
    assert log_likelihood_ratio(61, 80, 0.80, 0.05) == pytest.approx(expected)
    assert log_likelihood_ratio(np.array([61, 80]), 80, 0.8, 0.05)[0] == pytest.approx(expected)


def test_the_boundary_is_reached_exactly_at_the_error() -> None:
    assert boundary(0.05) == pytest.approx(math.log(20))
    rows = 200
    sides = [sequential_test(right, rows, 0.80, 0.05, 0.0125) for right in range(rows + 1)]
    assert sides == sorted(sides, key=("below", "undecided", "above").index)
    for before, after in itertools.pairwise(range(rows + 1)):
        ratio = log_likelihood_ratio(before, rows, 0.80, 0.05)
        assert (sides[before] == "below") == (ratio >= boundary(0.0125)), after


@pytest.mark.parametrize(("rate", "side"), [(0.85, "below"), (0.75, "above")])
def test_a_true_rate_at_the_margin_is_misjudged_at_most_at_the_error(rate: float, side: str) -> None:
    """Every look at the rows counts: the test may stop at any of them."""
    rng, error = np.random.default_rng(1), 0.05
    right = (rng.random((2000, ROWS)) < rate).cumsum(axis=1)
    ratios = log_likelihood_ratio(right, np.arange(1, ROWS + 1), 0.80, 0.05)
    wrong = ratios >= boundary(error) if side == "below" else ratios <= -boundary(error)
    assert wrong.any(axis=1).mean() <= error


def test_the_binomial_test_is_that_of_scipy() -> None:
    assert binomial_test(11, 30, 0.60, 0.0125) == "below" and binom.cdf(11, 30, 0.60) <= 0.0125
    assert binomial_test(12, 30, 0.60, 0.0125) == "undecided" and binom.cdf(12, 30, 0.60) > 0.0125
    assert binomial_test(25, 30, 0.60, 0.0125) == "above"


def test_the_sign_test_counts_only_changed_rows() -> None:
    assert sign_test(6, 0) == pytest.approx(1 / 64)
    assert (sign_test(0, 0), sign_test(0, 3)) == (1.0, 1.0)
    assert sign_test(3, 3) == pytest.approx(sum(math.comb(6, k) for k in range(3, 7)) / 64)


def test_the_gap_is_drawn_paired_on_rows() -> None:
    names = [f"r{number}" for number in range(64)]
    rng = np.random.default_rng(0)
    losses = [dict(zip(names, map(float, rng.normal(1.0, 0.5, 64)), strict=True)) for _ in range(2)]
    even = dict.fromkeys(names, 1.0)
    first = tuple(RowResults(one, even) for one in losses)
    raised = (RowResults({name: value + 0.1 for name, value in losses[0].items()}, even), first[1])
    before, after = gap_draws([(first[0], first[1]), raised])
    assert np.allclose(after - before, 0.1)  # the rows' own differences cancel
    assert before.std() == pytest.approx(
        math.hypot(*(float(np.std(list(one.values()))) for one in losses)) / 8, rel=0.1
    )


# ---------------------------------------------------------------- sequential guards
def test_a_healthy_arm_asks_nothing_beyond_the_core() -> None:
    assert PASS.decide(BASE, [measured("irrelevant_pass", CORE)]) == Continue()
    assert HALLUCINATION.decide(INNOCENT, [measured("hallucination", 0)]) == Continue()


def test_an_undecided_eval_asks_until_the_reserve_is_used() -> None:
    one = measured("irrelevant_pass", 39)
    assert PASS.decide(BASE, [one]) == Ask(ASKED_AT_ONCE)
    assert PASS.decide(BASE, [measured("irrelevant_pass", 39, (112, 140))]) == Ask(4)
    capped = measured("irrelevant_pass", 38, (116, ROWS - CORE))
    assert standings((PASS,), BASE, capped) == {"irrelevant_pass": "undecided"}
    assert PASS.decide(BASE, [capped] * 4) == Continue()  # not broken


def test_a_pass_rate_must_be_broken_at_two_evals_in_a_row() -> None:
    low, high = measured("irrelevant_pass", 25, step=30), measured("irrelevant_pass", CORE, step=60)
    assert PASS.decide(BASE, [low]) == Continue()
    assert PASS.decide(BASE, [low, high]) == Continue()
    decision = PASS.decide(BASE, [high, low, low])
    assert isinstance(decision, Stop)
    assert decision.reason == "irrelevant_pass 25/48 < 0.80 (error ≤ 5 % a run at 0.85)"
    verdict = judge((PASS,), BASE, [low, low])
    assert verdict is not None and verdict.value == 25 / 48
    assert (verdict.kind, verdict.cause, verdict.limit) == ("pruned", "irrelevant_pass", 0.80)


def test_the_stop_counts_the_rows_of_the_reserve() -> None:
    one = measured("irrelevant_pass", 36, (19, 32))
    decision = PASS.decide(BASE, [one, one])
    assert isinstance(decision, Stop) and "irrelevant_pass 55/80 < 0.80" in decision.reason


def test_rows_that_another_guard_asks_do_not_undo_a_decision(record: Record) -> None:
    guard = as_tests(GUARDS, 5)[0]
    alone, more = measured("irrelevant_pass", 31), measured("irrelevant_pass", 31, (16, 16))
    assert standings((guard,), BASE, alone) == standings((guard,), BASE, more) == {"irrelevant_pass": "broken"}
    assert sequential_test(47, 64, 0.80, 0.05, 0.01) == "undecided"  # what all rows together say
    record.append(measured("irrelevant_pass", 31, (144, 144)))
    (resumed,) = record.evals()  # rows are read in the order in which they were asked
    decision = guard.decide(BASE, [alone, resumed])
    assert isinstance(decision, Stop) and decision.value == 31 / 48
    assert decision.reason.startswith("irrelevant_pass 31/48 < 0.80 ")  # the rows that decided
    kept = measured("irrelevant_pass", 48, (0, 144))
    assert standings((guard,), BASE, kept) == {"irrelevant_pass": "kept"}
    assert guard.decide(BASE, [kept, kept]) == Continue()


def test_the_order_of_the_rows_is_kept_by_a_record(record: Record) -> None:
    names = [f"row-{number}" for number in (*range(CORE + 32, CORE, -1), *range(100, 90, -1))]
    one = measured("irrelevant_pass", CORE)
    shuffled = Measurement(one.kind, 30, one.metrics, one.counts, one.rows, "1",
                           {"irrelevant_pass": RowResults(dict.fromkeys(names, 1.0))})  # fmt: skip
    record.append(shuffled)
    assert list(record.evals()[0].reserve["irrelevant_pass"].values) == names


def test_a_limit_comes_from_the_baseline_on_the_rows_asked() -> None:
    base = measured("hallucination", 12, (0, ROWS - CORE))  # a quarter of the core, nothing of the reserve
    assert HALLUCINATION.limit(base, [measured("hallucination", 19)]) == pytest.approx(0.40)
    assert HALLUCINATION.limit(base, [measured("hallucination", 19, (0, CORE))]) == pytest.approx(0.275)
    assert HALLUCINATION.limit(base, [measured("hallucination", 0, (0, CORE))]) == pytest.approx(0.40)  # by the core
    assert HALLUCINATION.limit(base, []) == pytest.approx(0.40)


def test_hallucination_is_stopped_at_one_eval() -> None:
    decision = HALLUCINATION.decide(INNOCENT, [measured("hallucination", 20)])
    assert decision == Stop("hallucination 20/48 > 0.15 (error ≤ 5 % a run at 0.10)", 20 / 48)


def test_more_evals_need_more_evidence() -> None:
    one = measured("irrelevant_pass", 32)
    assert isinstance(as_tests(GUARDS, 2)[0].decide(BASE, [one, one]), Stop)
    assert isinstance(as_tests(GUARDS, 200)[0].decide(BASE, [one, one]), Ask)


def test_what_the_baseline_did_not_answer_raises() -> None:
    with pytest.raises(KeyError):
        PASS.decide(measured("irrelevant_pass", CORE), [measured("irrelevant_pass", 40, (8, 16))])


def test_rows_are_asked_only_when_no_guard_stops() -> None:
    both = measured("irrelevant_pass", 39)
    evil = measured("hallucination", 30)
    joint = Measurement(
        "eval", 30, {**both.metrics, **evil.metrics}, {**both.counts, **evil.counts}, {**both.rows, **evil.rows}
    )
    base = Measurement("eval", 0, {**BASE.metrics, **INNOCENT.metrics}, {}, {**BASE.rows, **INNOCENT.rows}, "1",
                       {**BASE.reserve, **INNOCENT.reserve})  # fmt: skip
    assert rows_to_ask((PASS,), base, [joint]) == ASKED_AT_ONCE
    assert rows_to_ask((PASS, HALLUCINATION), base, [joint]) == 0


# ---------------------------------------------------------------- the other guards
def captioned(sane: int, rows: int = 30) -> Measurement:
    return Measurement("eval", 0, {"caption_sanity": sane / rows}, {"caption_sanity": Proportion(sane, rows)})


def test_captions_are_judged_by_a_binomial_test() -> None:
    base = captioned(30)
    assert CAPTIONS.decide(base, [captioned(12)] * 2) == Continue()  # 0.40 of 30 may still be 0.60
    decision = CAPTIONS.decide(base, [captioned(11)] * 2)
    assert isinstance(decision, Stop) and decision.reason.startswith("caption_sanity 11/30 < 0.60")
    assert CAPTIONS.decide(captioned(5, 5), [captioned(1, 5)] * 2) == Continue()  # five rows cannot show it


def lost(gap: float, spread: float, step: int) -> Measurement:
    rng = np.random.default_rng(step)
    names = [f"r{number}" for number in range(64)]
    noise = rng.normal(0.0, spread, 64)
    eval_loss = RowResults(dict(zip(names, map(float, 1.0 + gap + noise - noise.mean()), strict=True)))
    rows = {"eval_loss": eval_loss, "train_loss": RowResults(dict.fromkeys(names, 1.0))}
    return Measurement("eval", step, {"generalization_gap": gap}, {}, rows)


def test_a_gap_stops_only_where_the_rows_agree() -> None:
    def gaps(spread: float, *values: float) -> Sequence[Measurement]:
        return [lost(value, spread, step) for step, value in enumerate(values)]

    assert isinstance(GAP.decide(BASE, gaps(0.01, 0.0, 0.05, 0.08)), Stop)
    assert GAP.decide(BASE, gaps(1.0, 0.0, 0.05, 0.08)) == Continue()  # a few rows made it
    assert GAP.decide(BASE, gaps(0.01, 0.0, 0.03, 0.05)) == Continue()
    with pytest.raises(KeyError):
        GAP.decide(BASE, [Measurement("eval", s, {"generalization_gap": g}) for s, g in enumerate((0.0, 0.1, 0.2))])


def test_a_guard_without_a_test_decides_as_it_is() -> None:
    fall = Fall("stage1_accuracy", 0.1, 2)
    assert deciding((fall,), "tested", 4) == (fall,)
    assert deciding(GUARDS, "exact", 4) == GUARDS
    assert [guard.metric for guard in deciding(GUARDS, "tested", 4)] == [guard.metric for guard in GUARDS]


def test_the_record_keeps_what_was_asked_and_decided(record: Record) -> None:
    fall = GroupFall("irrelevant_pass", "door", 0, 6, 6)
    one = measured("irrelevant_pass", 40, (30, 32), step=30)
    kept = Measurement(
        "eval", 30, one.metrics, one.counts, one.rows, "1", one.reserve, {"irrelevant_pass": "kept"}, (fall,)
    )
    record.append(kept)
    assert record.evals() == [kept]
    assert str(fall) == "irrelevant_pass on `door`: 0 of 6, baseline 6"
    assert kept.metrics["irrelevant_pass"] == 40 / 48  # the reserve is in no metric

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.constraint import CONSTRAINT, TextConstraint, applicable_constraint, best_eval
from trainables.decision import Guard, Stop
from trainables.guards import (
    GUARDS,
    Ceiling,
    Fall,
    Floor,
    Widening,
    applicable,
    broken_by_baseline,
    described,
    guard_of,
    judge,
    label_of,
)  # fmt: skip
from trainables.record import Measurement

BASELINE = {"irrelevant_pass": 1.0, "hallucination": 0.0, "generalization_gap": 0.0, "caption_sanity": 1.0}
BASE = Measurement("eval", 0, BASELINE)
PASS, HALLUCINATION, GAP, CAPTIONS = GUARDS


def scored(metrics: dict[str, float]) -> Measurement:
    return Measurement("eval", 0, metrics)


def history(*evals: dict[str, float]) -> list[Measurement]:
    return [Measurement("eval", 30 * (number + 1), BASELINE | metrics) for number, metrics in enumerate(evals)]


def series(metric: str, *values: float) -> list[Measurement]:
    return history(*({metric: value} for value in values))


@pytest.mark.parametrize(
    ("passes", "fires"),
    [
        ((0.80, 0.80), False),  # the floor itself holds
        ((0.79, 0.79), True),
        ((0.79,), False),  # two consecutive evals
        ((0.10, 0.80), False),
        ((0.10, 0.80, 0.10), False),
        ((1.0, 0.79, 0.10), True),
        ((0.10, 0.10, 0.80), False),  # judged after the newest
    ],
)
def test_irrelevant_pass_must_stay_on_its_floor(passes: tuple[float, ...], fires: bool) -> None:
    assert (judge(GUARDS, BASE, series("irrelevant_pass", *passes)) is not None) == fires


def test_the_floor_is_the_higher_of_the_relative_and_the_absolute_one() -> None:
    rule = Floor("irrelevant_pass", max_relative_drop=0.20, min_absolute=0.50, patience_evals=2)
    assert rule.limit(scored({"irrelevant_pass": 0.95}), ()) == pytest.approx(0.76)
    assert rule.limit(scored({"irrelevant_pass": 0.60}), ()) == 0.50
    baseline = scored(BASELINE | {"irrelevant_pass": 0.95})
    assert judge([rule], baseline, series("irrelevant_pass", 0.76, 0.76)) is None
    assert judge([rule], baseline, series("irrelevant_pass", 0.75, 0.75)) is not None
    assert judge(GUARDS, baseline, series("irrelevant_pass", 0.79, 0.79)) is not None  # 0.80 is above 0.76


@pytest.mark.parametrize(
    ("start", "value", "fires"),
    [(0.0, 0.15, False), (0.0, 0.16, True), (0.30, 0.45, False), (0.30, 0.46, True), (0.30, 0.10, False)],
)
def test_hallucination_may_rise_by_fifteen_points_exactly(start: float, value: float, fires: bool) -> None:
    baseline = scored(BASELINE | {"hallucination": start})
    assert (judge(GUARDS, baseline, series("hallucination", value)) is not None) == fires


def test_hallucination_fires_at_the_newest_eval_only() -> None:
    assert judge(GUARDS, BASE, series("hallucination", 0.9, 0.0)) is None


@pytest.mark.parametrize(
    ("gaps", "fires"),
    [
        ((0.00, 0.03, 0.06), False),  # widened by 0.06, not by more
        ((0.10, 0.13, 0.16), False),
        ((0.00, 0.03, 0.07), True),
        ((0.00, 0.07), False),  # one interval is not two
        ((0.00, 0.10, 0.09), False),  # no longer worsening
        ((0.00, 0.07, 0.07), False),  # standing still is not worsening
        ((0.50, 0.51, 0.55), False),  # wide from the start, held against its own best
        ((0.30, 0.00, 0.05, 0.07), True),  # the best need not be the first
        ((-0.20, -0.10, -0.01), False),  # a lead of easier rows that shrinks with the loss is no gap
        ((-0.20, 0.03, 0.07), True),
        ((0.00, 0.20, 0.10, 0.15), False),  # one worsening interval after an improvement
    ],
)
def test_the_gap_may_widen_by_six_hundredths(gaps: tuple[float, ...], fires: bool) -> None:
    assert (judge(GUARDS, BASE, series("generalization_gap", *gaps)) is not None) == fires


@pytest.mark.parametrize(
    ("sane", "fires"), [((0.6, 0.6), False), ((0.4, 0.4), True), ((0.4, 0.6), False), ((0.4,), False)]
)
def test_captions_may_degrade_twice_before_it_ends(sane: tuple[float, ...], fires: bool) -> None:
    assert (judge(GUARDS, BASE, series("caption_sanity", *sane)) is not None) == fires


@pytest.mark.parametrize(
    ("metric", "values", "reason"),
    [
        ("irrelevant_pass", (0.75, 0.71), "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"),
        ("hallucination", (0.20,), "hallucination 0.20 > 0.15 at one eval (baseline 0.00)"),
        (
            "generalization_gap",
            (0.01, 0.05, 0.09),
            "generalization_gap 0.09 > best 0.01 + 0.06 and worsening over 2 intervals",
        ),
        ("irrelevant_pass", (0.75, 51 / 64), "irrelevant_pass 0.797 < 0.800 for 2 evals (baseline 1.00)"),
        ("caption_sanity", (0.4, 0.2), "caption_sanity 0.20 < 0.60 for 2 evals (baseline 1.00)"),
    ],
)
def test_a_stop_gives_its_reason_in_numbers(metric: str, values: tuple[float, ...], reason: str) -> None:
    verdict = judge(GUARDS, BASE, series(metric, *values))
    assert verdict is not None
    assert (verdict.kind, verdict.cause, verdict.step) == ("pruned", metric, 30 * len(values))
    assert verdict.reason == reason
    guard = next(one for one in GUARDS if one.metric == metric)
    assert (verdict.value, verdict.limit) == (values[-1], guard.limit(BASE, series(metric, *values)))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.metric)
def test_a_guard_without_its_metric_raises(guard: Floor | Ceiling | Widening) -> None:
    blind = [Measurement("eval", 30, {k: v for k, v in BASELINE.items() if k != guard.metric})]
    with pytest.raises(KeyError, match=guard.metric):
        judge(GUARDS, BASE, blind)
    if not isinstance(guard, Widening):
        with pytest.raises(KeyError, match=guard.metric):
            judge(GUARDS, scored({k: v for k, v in BASELINE.items() if k != guard.metric}), history({}))


def test_the_evals_a_guard_needs() -> None:
    assert [guard.evals_needed for guard in GUARDS] == [2, 1, 3, 2]
    assert Fall("rate", max_absolute_drop=0.1, patience_evals=2).evals_needed == 2


def test_a_limit_is_a_number_that_the_baseline_or_the_trial_gives() -> None:
    gap = series("generalization_gap", 0.02, 0.01, 0.05)
    assert (PASS.limit(BASE, ()), HALLUCINATION.limit(BASE, ())) == (0.80, 0.15)
    assert (GAP.limit(BASE, gap), GAP.limit(BASE, ())) == (pytest.approx(0.07), None)
    fall = Fall("rate", max_absolute_drop=0.1, patience_evals=2)
    assert fall.limit(BASE, [scored({"rate": 0.9}), scored({"rate": 0.1})]) == pytest.approx(0.8)
    assert fall.limit(BASE, ()) is None


def test_a_guard_is_written_as_plain_values_and_read_back() -> None:
    assert described(PASS) == {
        "rule": "Floor", "metric": "irrelevant_pass", "max_relative_drop": 0.2, "min_absolute": 0.8,
        "patience_evals": 2,
    }  # fmt: skip
    assert [guard_of(described(guard)) for guard in GUARDS] == [*GUARDS]
    assert guard_of({"rule": "Elsewhere", "metric": "irrelevant_pass"}) is None
    assert label_of(PASS) == "floor_irrelevant_pass"


def test_a_base_below_its_own_floor_is_named_before_anything_runs() -> None:
    assert broken_by_baseline(GUARDS, scored(BASELINE | {"irrelevant_pass": 0.80})) == []
    low = scored(BASELINE | {"irrelevant_pass": 0.75})
    assert broken_by_baseline(GUARDS, low) == ["irrelevant_pass: baseline 0.75 < 0.80"]


rate = st.floats(0.0, 1.0)


@given(
    baseline=st.fixed_dictionaries(
        {name: rate for name in ("irrelevant_pass", "hallucination", "caption_sanity")}
        | {"generalization_gap": st.floats(-5.0, 5.0)}
    ),
    evals=st.integers(1, 6),
)
def test_a_trial_that_stays_at_the_baseline_is_stopped_only_if_the_base_is_below_its_floor(
    baseline: dict[str, float], evals: int
) -> None:
    verdict = judge(GUARDS, scored(baseline), [Measurement("eval", step, baseline) for step in range(evals)])
    if evals == 1 or not broken_by_baseline(GUARDS, scored(baseline)):
        assert verdict is None
    else:
        assert verdict is not None


@pytest.mark.parametrize("rows", [*range(1, 33), 40, 48, 50, 60, 100])
def test_rates_on_a_limit_keep_it_as_in_exact_arithmetic(rows: int) -> None:
    """Rates are fractions of a few rows, and limits decimal: binary floats must not decide between them."""
    for base in (Fraction(hits, rows) for hits in range(rows + 1)):
        baseline = BASELINE | dict.fromkeys(("hallucination", "irrelevant_pass", "caption_sanity"), float(base))

        def fires(guard: Guard, value: Fraction, baseline: dict[str, float] = baseline) -> bool:
            return judge([guard], scored(baseline), series(guard.metric, float(value), float(value))) is not None

        for limit in (base + Fraction(15, 100), max(base, Fraction(1)) * Fraction(80, 100), base * Fraction(60, 100)):
            for value in (Fraction(int(limit * rows) + step, rows) for step in (-1, 0, 1)):
                assert fires(HALLUCINATION, value) == (value > base + Fraction(15, 100))
                assert fires(PASS, value) == (value < max(base * Fraction(80, 100), Fraction(80, 100)))
                assert fires(CAPTIONS, value) == (value < base * Fraction(60, 100))


@pytest.mark.parametrize("rows", [*range(1, 33), 40, 48, 50, 60, 100])
def test_the_constraint_on_the_best_admits_exactly_ten_points(rows: int) -> None:
    for base in (Fraction(hits, rows) for hits in range(rows + 1)):
        baseline = BASELINE | {"irrelevant_pass": float(base), "hallucination": float(base)}
        for step in (-1, 0, 1):
            low, high = (Fraction(int((base + way * Fraction(1, 10)) * rows) + step, rows) for way in (-1, 1))
            kept = BASELINE | {"irrelevant_pass": float(low), "hallucination": float(base)}
            assert CONSTRAINT.admits(baseline, kept) == (low >= base - Fraction(1, 10))
            risen = BASELINE | {"irrelevant_pass": float(base), "hallucination": float(high)}
            assert CONSTRAINT.admits(baseline, risen) == (high <= base + Fraction(1, 10))


def test_the_best_eval_is_the_lowest_loss_among_the_admissible() -> None:
    evals = history(
        {"eval_loss": 0.5},
        {"eval_loss": 0.1, "irrelevant_pass": 0.89},
        {"eval_loss": 0.2, "hallucination": 0.11},
        {"eval_loss": 0.3, "irrelevant_pass": 0.90, "hallucination": 0.10},
        {"eval_loss": 0.4},
    )
    best = best_eval(CONSTRAINT, BASELINE, evals)
    assert best is evals[3]
    assert best_eval(CONSTRAINT, BASELINE, evals[1:3]) is None
    assert best_eval(CONSTRAINT, BASELINE, []) is None


def test_equal_losses_keep_the_earlier_eval() -> None:
    evals = history({"eval_loss": 0.5}, {"eval_loss": 0.5})
    assert best_eval(CONSTRAINT, BASELINE, evals) is evals[0]


# ---------------------------------------------------------------- what an earlier stage taught
NOTHING = scored({})
FALL = Fall("stage1_accuracy", max_absolute_drop=0.10, patience_evals=2)


def falling(*values: float) -> list[Measurement]:
    return [scored({"stage1_accuracy": value}) for value in values]


@pytest.mark.parametrize(
    ("values", "broken"),
    [
        ((0.92, 0.65), False),  # one eval is no habit
        ((0.92, 0.65, 0.65), True),
        ((0.92, 0.82, 0.82), False),  # on the limit
        ((0.92, 0.8199, 0.8199), True),
        ((0.92, 0.65, 0.92, 0.65), False),
        ((0.50, 0.65, 0.65), False),
        ((0.92, 0.95, 0.65, 0.70), True),  # compared with the first eval, not with the best or the last
    ],
)
def test_a_fall_is_measured_from_the_first_eval(values: tuple[float, ...], broken: bool) -> None:
    decision = FALL.decide(NOTHING, falling(*values))
    assert isinstance(decision, Stop) == broken
    assert (FALL.excess(NOTHING, falling(*values)) > 0) == broken
    if isinstance(decision, Stop):
        assert "(first eval 0.92)" in decision.reason


def test_a_fall_guard_without_its_metric_raises() -> None:
    with pytest.raises(KeyError):
        FALL.decide(NOTHING, [scored({"eval_loss": 1.0})] * 3)


RATES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5)


@given(RATES, st.floats(0.0, 1.0))
def test_a_guard_is_exceeded_exactly_when_it_is_broken(rates: list[float], reference: float) -> None:
    for rule in (
        Floor("rate", max_relative_drop=0.2, min_absolute=0.3, patience_evals=2),
        Ceiling("rate", max_absolute_rise=0.15, patience_evals=2),
        Widening("rate", max_widening=0.06, worsening_intervals=2),
        Fall("rate", max_absolute_drop=0.1, patience_evals=1),
    ):
        baseline, evals = scored({"rate": reference}), [scored({"rate": rate}) for rate in rates]
        assert (rule.excess(baseline, evals) > 0.0) == isinstance(rule.decide(baseline, evals), Stop)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_constraint_is_exceeded_exactly_when_it_does_not_admit(passes: float, hallucination: float) -> None:
    metrics = {"irrelevant_pass": passes, "hallucination": hallucination}
    assert (CONSTRAINT.excess(BASELINE, metrics) > 0.0) != CONSTRAINT.admits(BASELINE, metrics)


def test_the_excess_is_the_distance_to_the_limit() -> None:
    assert PASS.excess(BASE, series("irrelevant_pass", 0.75, 0.70)) == pytest.approx(0.05)
    assert PASS.excess(BASE, series("irrelevant_pass", 0.95, 0.90)) == pytest.approx(-0.15)
    assert PASS.excess(BASE, series("irrelevant_pass", 0.70)) == 0.0  # one eval is too few to break it
    assert HALLUCINATION.excess(BASE, series("hallucination", 0.25)) == pytest.approx(0.10)
    assert CONSTRAINT.excess(BASELINE, {"irrelevant_pass": 0.85, "hallucination": 0.0}) == pytest.approx(0.05)


# -------------------------------------------------------------------- a base that sees no pictures
def test_guards_without_their_metric_are_separated_in_order() -> None:
    text = {"generalization_gap", "eval_loss", "text_retention"}
    kept, dropped = applicable(GUARDS, text)
    assert [guard.metric for guard in kept] == ["generalization_gap"]
    assert [guard.metric for guard in dropped] == ["irrelevant_pass", "hallucination", "caption_sanity"]
    assert applicable(GUARDS, {guard.metric for guard in GUARDS}) == (GUARDS, ())
    assert applicable(GUARDS, ()) == ((), GUARDS)


def test_a_guard_that_applies_and_cannot_see_still_raises() -> None:
    kept, _ = applicable(GUARDS, {"irrelevant_pass"})
    with pytest.raises(KeyError, match="irrelevant_pass"):
        judge(kept, scored({"irrelevant_pass": 1.0}), [Measurement("eval", 1, {"eval_loss": 1.0})] * 2)


def test_the_best_eval_of_a_text_base_keeps_its_text() -> None:
    assert applicable_constraint(CONSTRAINT, {"text_retention"}) == TextConstraint()
    assert applicable_constraint(CONSTRAINT, {"irrelevant_pass", "hallucination", "text_retention"}) is CONSTRAINT
    assert applicable_constraint(TextConstraint(0.3), {"eval_loss"}) == TextConstraint(0.3)
    own = TextConstraint(max_text_retention_drop=0.3)
    assert applicable_constraint(own, {"text_retention"}) is own
    baseline = {"text_retention": 0.9}
    for kept, admitted in ((0.9, True), (0.8, True), (0.79, False), (1.0, True)):  # 0.9 - 0.1 is not 0.8 in binary
        assert TextConstraint().admits(baseline, {"text_retention": kept}) == admitted
        assert (TextConstraint().excess(baseline, {"text_retention": kept}) > 0.0) != admitted
    with pytest.raises(KeyError, match="text_retention"):
        TextConstraint().admits(baseline, {"irrelevant_pass": 1.0})

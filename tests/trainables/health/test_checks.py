"""Tests the health checks at their limits: the last history that passes and the first that does not."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.health.checks import (
    EvalFacts,
    StepFacts,
    judge_eval,
    judge_handover,
    judge_metrics,
    judge_step,
    robust_z,
)

UNIFORM = 6.0


def step(number: int = 5, **changes: Any) -> StepFacts:
    values: dict[str, Any] = {
        "step": number,
        "loss": 1.0 / number,
        "gradient_norm": 0.5 + 0.01 * number,
        "tower_norms": {"language": 0.3, "vision": 0.4},
        "rates": {"language": 1e-3, "vision": 3e-3},
        "expected_rates": {"language": 1e-3, "vision": 3e-3},
        "uniform_loss": UNIFORM,
    }
    return StepFacts(**(values | changes))


def history(count: int, **last: Any) -> list[StepFacts]:
    """Healthy steps with changes to the last one."""
    return [*(step(number) for number in range(1, count)), step(count, **last)]


def fired(steps: list[StepFacts]) -> tuple[str, str, int] | None:
    finding = judge_step(steps)
    return (finding.check, finding.level, finding.step) if finding else None


def test_healthy_steps_raise_no_finding() -> None:
    assert [fired(history(count)) for count in range(1, 60)] == [None] * 59


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"loss": float("nan")}, "non_finite_loss"),
        ({"loss": float("inf"), "gradient_norm": float("nan")}, "non_finite_loss"),
        ({"gradient_norm": float("inf")}, "non_finite_gradient"),
    ],
)
def test_a_non_finite_value_ends_the_trial_at_once(changes: dict, check: str) -> None:
    assert fired(history(3, **changes)) == (check, "invalid", 3)


@pytest.mark.parametrize(("number", "loss", "fires"), [(1, 9.0, False), (1, 9.01, True), (2, 9.01, False)])
def test_the_first_loss_must_lie_near_blind_guessing(number: int, loss: float, fires: bool) -> None:
    assert (fired([step(number, loss=loss)]) == ("loss_too_large", "invalid", number)) is fires


def test_a_loss_of_zero_must_repeat_itself() -> None:
    assert fired(history(4, loss=0.0)) is None
    assert fired([*history(4, loss=0.0), step(5, loss=1e-30)]) is None
    assert fired([*history(4, loss=0.0), step(5, loss=0.0)]) == ("zero_loss", "invalid", 5)


def test_a_tower_without_gradient_is_found_although_the_other_one_trains() -> None:
    dead = {"tower_norms": {"language": 0.3, "vision": 0.0}}
    assert fired(history(4, **dead)) is None
    assert fired([*history(4, **dead), step(5, **dead)]) == ("zero_gradient", "invalid", 5)
    assert "vision" in (judge_step([*history(4, **dead), step(5, **dead)]) or pytest.fail()).evidence


def test_steps_that_do_not_reach_a_tower_are_not_judged() -> None:
    text_only = {"tower_norms": {}, "gradient_norm": 0.0}
    assert fired([step(number, **text_only) for number in range(1, 20)]) is None
    dead = {"tower_norms": {"vision": 0.0}}
    assert fired([step(1, **dead), step(2, **text_only), step(3, **dead)]) == ("zero_gradient", "invalid", 3)


@pytest.mark.parametrize(
    ("norms", "fires"),
    [
        ([1.0] * 5, True),
        ([1.0] * 4, False),
        ([1.0, 1.0, 1.0, 1.0, 1.0000004], True),
        ([1.0, 1.0, 1.0, 1.0, 1.00001], False),
    ],
)
def test_a_norm_equal_to_six_digits_over_five_steps_is_broken(norms: list[float], fires: bool) -> None:
    steps = [step(number, gradient_norm=norm) for number, norm in enumerate(norms, start=1)]
    assert (fired(steps) == ("constant_gradient", "invalid", len(norms))) is fires


@pytest.mark.parametrize(("rate", "fires"), [(1.0099e-3, False), (1.02e-3, True), (0.0, True), (0.98e-3, True)])
def test_the_rate_must_be_the_schedules_within_a_percent(rate: float, fires: bool) -> None:
    assert (fired([step(3, rates={"language": rate, "vision": 3e-3})]) == ("rate", "invalid", 3)) is fires


def test_a_rate_of_zero_in_warm_up_is_the_schedules_own() -> None:
    none = {"language": 0.0, "vision": 0.0}
    assert fired([step(1, rates=none, expected_rates=none)]) is None
    assert fired([step(1, expected_rates=none)]) == ("rate", "invalid", 1)


def with_spikes(*at: int, length: int = 40, size: float = 100.0) -> list[StepFacts]:
    return [step(n, gradient_norm=size if n in at else 0.5 + 0.01 * (n % 7)) for n in range(1, length + 1)]


def test_two_spikes_in_fifty_steps_give_a_label_and_one_does_not() -> None:
    assert fired(with_spikes(30)) is None
    assert fired(with_spikes(30, 40)) == ("gradient_spikes", "degraded", 40)
    assert fired(with_spikes(3, 60, length=60)) is None
    assert fired(with_spikes(3, 10, length=12)) is None, "too short a history to call anything a spike"


def test_larger_gradients_are_no_spikes() -> None:
    """F28: rsLoRA's norms lie between 0.9 and 9."""
    assert fired([step(n, gradient_norm=0.9 + 8.1 * (n % 5 == 0)) for n in range(1, 51)]) is None


def test_even_norms_do_not_make_a_small_change_a_spike() -> None:
    values = [1.0] * 30 + [2.0]
    assert max(robust_z(values, min_relative_spread=0.1)) == pytest.approx(10.0)
    assert max(robust_z(values, min_relative_spread=1e-6)) > 1e5


# ---------------------------------------------------------------- evals
@pytest.mark.parametrize(
    ("loss", "move", "rates", "check"),
    [
        (1.5, 0.1, 1.0, "broken_eval"),
        (1.5, 0.0, 1.0, "no_learning"),
        (1.5, 1e-9, 1.0, "no_learning"),
        (1.5, 0.0, 0.0, None),
        (1.5000000000000002, 0.1, 1.0, None),
        (1.5000000000000002, 0.0, 1.0, None),
    ],
)
def test_an_eval_equal_to_the_last_bit(loss: float, move: float, rates: float, check: str | None) -> None:
    finding = judge_eval(EvalFacts(30, 1.5, 0.1, 1.0), EvalFacts(60, loss, move, rates))
    assert (finding.check if finding else None) == check
    if finding:
        assert finding.step == 60 and "1.5" in finding.evidence and f"{move:.3g}" in finding.evidence


def test_three_equal_evals_are_found_at_the_second() -> None:
    evals = [EvalFacts(number, 2.9310, 0.0, 1e-4) for number in (150, 300, 450)]
    assert [finding.step for finding in map(judge_eval, evals, evals[1:]) if finding] == [300, 450]


@pytest.mark.parametrize(
    ("parent", "first", "level"),
    [(0.5, 0.549, None), (0.5, 0.56, "degraded"), (0.5, 0.44, "degraded"), (0.5, 0.74, "degraded"),
     (0.5, 0.76, "invalid"), (0.5, 2.5, "invalid"), (0.5, 0.1, "degraded")],
)  # fmt: skip
def test_a_handover_may_drift_by_a_tenth_and_rise_by_half(parent: float, first: float, level: str | None) -> None:
    finding = judge_handover(parent, first)
    assert (finding.level if finding else None) == level


def test_a_non_finite_eval_is_named() -> None:
    finding = judge_metrics(30, {"eval_loss": float("nan"), "exact_match": 0.5})
    assert finding is not None
    assert (finding.check, finding.evidence) == ("non_finite_eval", "eval_loss nan at step 30")
    assert judge_metrics(30, {"eval_loss": 1.0}) is None
    assert str(finding.verdict()) == "invalid(non_finite_eval)"

"""The rate of an arm: the lowest loss, paired on rows, and the middle rate within one standard error."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from trainables.io.files import FileDamaged, write_json
from trainables.probes.metric import RowResults
from trainables.rates import (
    RATES,
    PilotResult,
    choice_text,
    choices_as_json,
    choose_rate,
    further_text,
    paired_difference,
    read_choices,
)

LOW, MIDDLE, HIGH = 1e-4 / 2.15, 1e-4, 2.15e-4


def rows(values: np.ndarray, weights: np.ndarray | None = None) -> RowResults:
    names = [f"r{number}" for number in range(len(values))]
    heavy = {} if weights is None else dict(zip(names, map(float, weights), strict=True))
    return RowResults(dict(zip(names, map(float, values), strict=True)), heavy)


def pilots(low: RowResults | None, middle: RowResults | None, high: RowResults | None) -> list[PilotResult]:
    return [
        PilotResult(rate, losses, "" if losses else "invalid(loss_too_large)")
        for rate, losses in zip((LOW, MIDDLE, HIGH), (low, middle, high), strict=True)
    ]


def test_of_rows_that_weigh_the_same_the_paired_error_is_scipys() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 40))

    difference, error = paired_difference(rows(one), rows(other))

    assert difference == pytest.approx(np.mean(one - other)) and error == pytest.approx(stats.sem(one - other))
    t = stats.ttest_rel(one, other).statistic  # whose denominator it is
    assert difference / error == pytest.approx(t)


def test_of_rows_with_weights_it_is_the_error_of_the_weighted_mean() -> None:
    draw = np.random.default_rng(1)
    weights, one, other = draw.integers(1, 30, 200), draw.normal(2, 1, 200), draw.normal(2, 1, 200)

    def weighted(difference: np.ndarray, weight: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.sum(difference * weight, axis) / np.sum(weight, axis)

    found, error = paired_difference(rows(one, weights), rows(other, weights))
    drawn = stats.bootstrap((one - other, weights), weighted, paired=True, vectorized=True, rng=draw, n_resamples=4000)

    assert found == pytest.approx(float(weighted(one - other, weights)))
    assert found == pytest.approx(rows(one, weights).mean - rows(other, weights).mean)
    assert error == pytest.approx(drawn.standard_error, rel=0.06)


def test_a_difference_that_only_pairing_resolves_decides() -> None:
    """The planted fault: rows differ much more from each other than the rates do, so an unpaired error hides it."""
    hardness = np.random.default_rng(2).normal(3.0, 1.0, 64)
    middle, high = hardness, hardness - 0.05 + np.random.default_rng(3).normal(0, 0.05, 64)
    unpaired = math.hypot(stats.sem(middle), stats.sem(high))
    assert middle.mean() - high.mean() < unpaired, "an unpaired comparison keeps the middle rate"

    choice = choose_rate("A1", pilots(rows(hardness + 0.2), rows(middle), rows(high)))

    assert choice.chosen == HIGH and choice.is_at_edge and choice.rows == 64
    assert "the highest of the three" in choice_text(choice)


@pytest.mark.parametrize(("gain_in_errors", "chosen"), [(0.99, MIDDLE), (1.01, HIGH)])
def test_within_one_standard_error_the_middle_rate_stays(gain_in_errors: float, chosen: float) -> None:
    noise = np.array([1.0, -1.0] * 32)
    error = stats.sem(noise)
    high = rows(2.0 - gain_in_errors * error + noise)

    choice = choose_rate("A1", pilots(rows(np.full(64, 5.0)), rows(np.full(64, 2.0)), high))

    assert choice.chosen == chosen
    assert choice.gain == pytest.approx(gain_in_errors * error) and choice.standard_error == pytest.approx(error)
    assert ("within its standard error" in choice_text(choice)) == (chosen == MIDDLE)


def test_the_middle_rate_with_the_lowest_loss_stays_without_a_test() -> None:
    choice = choose_rate("A1", pilots(*(rows(np.full(8, loss)) for loss in (2.0, 1.0, 3.0))))

    assert choice.chosen == MIDDLE and choice.gain is None and not choice.is_at_edge


def test_with_a_single_row_the_middle_rate_stays() -> None:
    choice = choose_rate("A1", pilots(rows(np.array([9.0])), rows(np.array([2.0])), rows(np.array([1.0]))))

    assert choice.chosen == MIDDLE and choice.standard_error is None and "unknown" in choice_text(choice)


def test_a_rate_that_diverged_loses_and_is_said() -> None:
    choice = choose_rate("A1", pilots(rows(np.full(8, 2.0)), rows(np.full(8, 1.0)), None))
    without_middle = choose_rate("A1", pilots(rows(np.full(8, 2.0)), None, None))

    assert choice.chosen == MIDDLE and "0.000215 none, invalid(loss_too_large)" in choice_text(choice)
    assert without_middle.chosen == LOW and without_middle.is_at_edge and without_middle.gain is None


def test_without_any_loss_no_rate_is_chosen() -> None:
    choice = choose_rate("A1", pilots(None, None, None))

    assert choice.chosen is None and not choice.is_at_edge and "no rate ended its pilot" in choice_text(choice)


def test_other_rows_or_weights_are_no_pairs() -> None:
    for other in (rows(np.ones(3)), rows(np.ones(4), np.array([1, 1, 1, 2]))):
        with pytest.raises(ValueError, match="same rows"):
            paired_difference(rows(np.ones(4)), other)


def test_choices_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    choices = {"abc": choose_rate("A1", pilots(rows(np.full(8, 2.0)), rows(np.full(8, 1.0)), None))}
    assert read_choices(tmp_path) == {}

    write_json(tmp_path / RATES, choices_as_json(choices))
    assert read_choices(tmp_path) == choices

    write_json(tmp_path / RATES, {"abc": {"arm": "A1"}})
    with pytest.raises(FileDamaged, match="as they were written"):
        read_choices(tmp_path)


@pytest.mark.parametrize("address", ["http://me:secret@host", "http://***@host"])
@pytest.mark.parametrize("form", ["--tracking-uri {}", "--tracking-uri={}"])
def test_what_to_try_further_keeps_the_launch_but_no_password(address: str, form: str) -> None:
    edge = choose_rate("A1-r8", pilots(rows(np.full(8, 2.0)), rows(np.full(8, 3.0)), None), "A1")
    command = (
        f"python -m sweeps.stage4 --lr auto --base 'my base' {form.format(address)} --only=A1,C2 --resume --rank 8"
    )

    assert further_text(edge, command) == (
        "A1-r8: a lower rate may be better still; try with: "
        "python -m sweeps.stage4 --base 'my base' --rank 8 --only A1 --lr auto:4.65116e-05"
    )
    inside = choose_rate("A1", pilots(*(rows(np.full(8, loss)) for loss in (2.0, 1.0, 3.0))))
    assert not further_text(inside, command)

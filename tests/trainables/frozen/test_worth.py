"""Tests the decision whether to keep activations: against the sum of all passes, and what it must not depend on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.frozen.keeping_file import (
    KEEPING_FILE,
    begun,
    begun_alike,
    read_keeping,
    write_if_new,
    write_keeping,
)
from trainables.frozen.worth import (
    ALWAYS,
    MARGIN,
    NEVER,
    Keeping,
    Reads,
    StepCosts,
    costs_in,
    decide,
    needs_costs,
    pays,
)
from trainables.io.files import FileDamaged

# measured: one arm on the last of 36 layers, CPU seconds
DEEP = StepCosts(plain=0.120, cold=0.133, warm=0.024)
SECONDS = st.floats(0.01, 10.0)


def simulated(rows: int, steps: int, kept: int, costs: StepCosts) -> tuple[float, float]:
    """Return the seconds of steps of one row each, without entries and with the first `kept` rows kept."""
    seen: set[int] = set()
    plain = with_entries = 0.0
    for step in range(steps):
        row = step % rows
        plain += costs.plain
        with_entries += costs.warm if row in seen else costs.cold
        if row < kept:
            seen.add(row)
    return plain, with_entries


@given(rows=st.integers(1, 12), epochs=st.integers(1, 6), kept=st.integers(0, 12), seconds=st.tuples(*[SECONDS] * 3))
def test_it_pays_where_the_sum_of_all_passes_is_less(
    rows: int, epochs: int, kept: int, seconds: tuple[float, float, float]
) -> None:
    costs, kept = StepCosts(*seconds), min(kept, rows)
    plain, with_entries = simulated(rows, rows * epochs, kept, costs)
    if abs(with_entries / plain - (1 - MARGIN)) > 1e-9:
        assert pays(epochs, costs, kept / rows) == (with_entries < (1 - MARGIN) * plain)


@pytest.mark.parametrize(("steps", "distinct", "reads"), [(6, 12, 1.0), (12, 12, 1.0), (18, 12, 1.5), (36, 12, 3.0)])
def test_reads_are_those_of_a_mean_row(steps: int, distinct: int, reads: float) -> None:
    assert Reads.of(steps, distinct, 2).training == reads


def test_a_row_that_is_read_once_is_not_kept_and_not_timed() -> None:
    once = Reads(1.0, 4)
    assert not needs_costs(once, has_files=False)
    found = decide(once, has_files=False)
    assert (found.training, found.evals) == (False, True)
    assert not decide(Reads(0.5, 1), has_files=False).evals


def test_passes_of_one_cut_read_entries_again_within_a_step() -> None:
    once = Reads(1.0, 1)
    assert needs_costs(once, has_files=False, shares_cut=True)
    assert decide(once, False, StepCosts(plain=1.0, cold=0.9, warm=0.2)).training
    assert not decide(once, False, StepCosts(plain=1.0, cold=0.98, warm=0.2)).training


def test_rows_that_are_read_again_are_kept_if_that_is_faster() -> None:
    again = Reads(3.0, 4)
    assert needs_costs(again, has_files=False)
    assert decide(again, False, DEEP).training
    slow_reads = StepCosts(plain=0.120, cold=0.133, warm=0.119)
    assert not decide(again, False, slow_reads).training
    assert not decide(again, False, DEEP, fits=0.05).training, "most rows are computed anew in every epoch"
    assert not decide(again, False, DEEP, fits=0.05).evals, "and most rows of evals"
    assert "5% of the rows find room" in decide(again, False, DEEP, fits=0.05).reason
    assert not decide(again, False, None, fits=0.5).training, "nothing was timed and not all rows find room"


def test_files_are_always_kept_and_the_decision_does_not_ask_what_is_there() -> None:
    """With a cold and with a warm directory the same passes run."""
    for reads in (Reads(0.5, 1), Reads(1.0, 4), Reads(3.0, 4)):
        assert not needs_costs(reads, has_files=True)
        found = decide(reads, True, StepCosts(1.0, 9.0, 9.0))
        assert found.training and found.evals


@pytest.mark.parametrize(("row_bytes", "share"), [(0.0, 1.0), (10.0, 1.0), (20.0, 0.5), (100.0, 0.1)])
def test_the_share_of_rows_that_find_room(row_bytes: float, share: float) -> None:
    assert StepCosts(1.0, 1.0, 1.0, row_bytes).fits(10, 100) == pytest.approx(share)


# -------------------------------------------------------------------- the file of a record
@pytest.mark.parametrize("keeping", [ALWAYS, decide(Reads(3.0, 4), False, DEEP, 0.9), decide(Reads(1.0, 1), False)])
def test_a_decision_is_read_as_it_was_written(keeping: Keeping, tmp_path: Path) -> None:
    assert read_keeping(tmp_path) is None
    write_keeping(tmp_path, keeping)
    assert read_keeping(tmp_path) == keeping


@pytest.mark.parametrize(
    "change",
    [{"training": "yes"}, {"evals": 1}, {"costs": {"plain": -1.0, "cold": 1.0, "warm": 1.0}}, {"costs": {}},
     {"costs": [1]}, {"other": 1}],
)  # fmt: skip
def test_a_changed_file_is_named(change: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / KEEPING_FILE).write_text(json.dumps(ALWAYS.as_json() | change), encoding="utf-8")
    with pytest.raises(FileDamaged, match=KEEPING_FILE) as raised:
        read_keeping(tmp_path)
    assert "run the trial again" in (raised.value.hint or "") and "differ by rounding" in (raised.value.hint or "")


def test_a_file_that_is_no_json_has_the_same_hint(tmp_path: Path) -> None:
    (tmp_path / KEEPING_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(FileDamaged, match=KEEPING_FILE) as raised:
        read_keeping(tmp_path)
    assert "run the trial again" in (raised.value.hint or "")


def test_trials_have_in_common_how_they_began(tmp_path: Path) -> None:
    assert begun_alike(tmp_path, 0) == () != begun_alike(tmp_path, 1)
    assert begun_alike(tmp_path, 1) == (True, True), "as in earlier versions, which had no file"
    write_if_new(tmp_path, 1, NEVER)
    assert begun(tmp_path, 1) == ALWAYS, "nothing is decided for such a trial"
    write_if_new(tmp_path, 0, NEVER)
    write_if_new(tmp_path, 0, ALWAYS)
    assert begun(tmp_path, 5) == NEVER and begun_alike(tmp_path, 5) == (False, False), "the first decision stays"
    (tmp_path / KEEPING_FILE).write_text("{", encoding="utf-8")
    assert begun_alike(tmp_path, 5) == ("damaged",)


@pytest.mark.parametrize("fields", [{"plain": 0.0, "cold": 1.0, "warm": 1.0}, {"plain": float("nan")}, {}])
def test_costs_of_a_damaged_file_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises((TypeError, ValueError)):
        costs_in(fields)

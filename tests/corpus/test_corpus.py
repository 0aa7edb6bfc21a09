"""Tests that each planted failure is found by its check in time, and that no control raises an alarm.

`make test` runs one bench; `make corpus` runs all of it, with hundreds of healthy runs, and writes `docs/corpus.md`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.corpus import at_evals, before_training, during_training
from tests.corpus.bench import Bench, Injection, planted
from tests.corpus.controls import CONTROLS, Control

FAST = [
    one
    for one in (*before_training.INJECTIONS, *during_training.INJECTIONS, *at_evals.INJECTIONS)
    if one.quantization == "none"
]
PLANTABLE = {f"F{number:02d}" for number in range(1, 37)} - {"F28"}  # F28 is a control: rsLoRA
SLOW = {  # another plant is found by the same check
    "saved tensors are empty",
    "schedule stepped once per process",
    "the eval uses another, fitted model",
    "generate returns a table's tokens",
}
UNHEALTHY = ("invalid", "degraded", "failed")
FAST_CONTROLS = (
    "vision alone",
    "a continued adapter and its optimizer",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("corpus"))
    yield made
    made.close()


@pytest.mark.parametrize("injection", [
    pytest.param(one, id=f"{one.failure}-{one.what}".replace(" ", "-"), marks=[pytest.mark.slow] * (one.what in SLOW))
    for one in FAST
])  # fmt: skip
def test_a_planted_failure_is_found_in_time(injection: Injection, bench: Bench) -> None:
    seen = planted(bench, injection)
    assert seen is not None, f"{injection.what}: no check of {injection.checks} fired"
    assert seen.step <= injection.latest_step
    assert any(character.isdigit() for character in seen.evidence), "evidence must hold numbers"


@pytest.mark.parametrize("injection", at_evals.CONTINUED, ids=lambda one: one.what.replace(" ", "-"))
def test_a_broken_hand_over_is_found_before_the_first_step(injection: Injection, bench: Bench) -> None:
    seen = bench.run(at_evals.continuing(bench), injection.before, injection.after)[0]
    assert (seen.check in injection.checks, seen.level, seen.step) == (True, "invalid", 0)


def test_a_half_written_checkpoint_is_skipped(bench: Bench) -> None:
    assert at_evals.damaged_checkpoint(bench) is not None


@pytest.mark.parametrize("control", [
    pytest.param(one, id=one.what.replace(" ", "-"), marks=[] if one.what in FAST_CONTROLS else pytest.mark.slow)
    for one in CONTROLS if one.bench == ("none", "image", "float32")
])  # fmt: skip
def test_a_healthy_run_raises_no_alarm(control: Control, bench: Bench) -> None:
    optimizer = control.changes.get("optimizer", "fresh")
    changes = control.changes | (at_evals.continuing(bench, optimizer) if control.continues else {})
    seen = bench.run(changes)
    assert seen[0].check == "completed", seen[0]
    assert [one for one in seen if one.level in UNHEALTHY] == []


def test_every_failure_that_can_be_planted_is() -> None:
    injections = (
        *before_training.INJECTIONS, *during_training.INJECTIONS, during_training.PACKED,
        *at_evals.INJECTIONS, *at_evals.CONTINUED,
    )  # fmt: skip
    assert {one.failure for one in injections} | {"F31"} == PLANTABLE
    assert set(FAST_CONTROLS) < {one.what for one in CONTROLS}
    checks = {one.checks for one in FAST if one.what not in SLOW}
    assert {one.what for one in FAST} > SLOW
    assert {one.checks for one in FAST} == checks, "each check is seen to fire in every run"

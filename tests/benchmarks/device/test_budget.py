"""Tests the time budget of a run on a device: what is skipped, cut or failed, and what is saved meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.device.budget import Budget, Section, Values, run_sections


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Saved:
    """Keeps what is saved, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Values]] = []

    def __call__(self, name: str, values: Values) -> None:
        self.entries.append((name, dict(values)))

    def last(self, name: str) -> Values:
        return [values for saved, values in self.entries if saved == name][-1]


def section(name: str, seconds: float, measure: Any) -> Section:
    return Section(name, f"Title of {name}", seconds, measure)


def three_tables() -> Iterator[Values]:
    for count in (1, 2, 3):
        yield {"tables": list(range(count))}


def test_every_table_is_saved_at_once_and_the_last_says_done() -> None:
    saved = Saved()
    run_sections([section("a", 1, three_tables)], Budget(100, Clock()), saved)
    assert [len(values.get("tables", [])) for _, values in saved.entries] == [0, 1, 2, 3, 3]
    assert saved.last("a") == {"title": "Title of a", "status": "done", "tables": [0, 1, 2]}


def test_a_section_that_does_not_fit_is_skipped_and_a_shorter_one_runs() -> None:
    clock, saved = Clock(), Saved()
    budget = Budget(100, clock)
    clock.seconds = 60
    run_sections([section("long", 41, three_tables), section("short", 40, three_tables)], budget, saved)
    assert saved.last("long")["status"] == "skipped: needs 41 s, but 40 s are left"
    assert "tables" not in saved.last("long")
    assert saved.last("short")["status"] == "done"


def test_a_section_that_exceeds_the_budget_is_cut_but_keeps_what_it_measured() -> None:
    clock, saved = Clock(), Saved()

    def slow() -> Iterator[Values]:
        yield {"tables": [1]}
        clock.seconds = 101
        yield {"tables": [1, 2]}
        raise AssertionError("a section must not go on after the budget is spent")

    run_sections([section("slow", 1, slow), section("next", 1, three_tables)], Budget(100, clock), saved)
    assert saved.last("slow") == {
        "title": "Title of slow", "status": "cut: the time budget is exceeded", "tables": [1, 2]
    }  # fmt: skip
    assert saved.last("next")["status"].startswith("skipped")


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: no kernel\nimage"), ImportError("no bitsandbytes")])
def test_a_section_that_fails_says_why_and_the_next_one_runs(error: Exception) -> None:
    saved = Saved()

    def failing() -> Iterator[Values]:
        yield {"tables": [1]}
        raise error

    run_sections([section("bad", 1, failing), section("good", 1, three_tables)], Budget(100, Clock()), saved)
    assert saved.last("bad")["status"] == f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
    assert saved.last("bad")["tables"] == [1]
    assert saved.last("good")["status"] == "done"

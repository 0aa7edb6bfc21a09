"""Tests that the page on guards has every case, and that its shares are those of the simulation."""

from __future__ import annotations

from benchmarks.guards import EVALS, cases, page
from sweeps.planning.guard_errors import kill_share


def test_the_page_has_every_case_with_the_simulated_shares() -> None:
    text = page(runs=100)
    for case in cases():
        assert sum(line.startswith(f"| {case.shown} |") for line in text.splitlines()) == 1
    first = next(cases())
    shares = " / ".join(
        f"{kill_share(first.rule, 'tested', first.rows, evals, first.rate, first.base, 100):.2f}" for evals in EVALS
    )
    assert f"| {first.shown} | {shares} |" in text

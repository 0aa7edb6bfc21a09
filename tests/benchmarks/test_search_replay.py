"""Tests the replay of searches over a recorded table, and the page about it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from benchmarks import search_replay
from benchmarks.search_measure import REFERENCE, SPACE, Table, hypervolume, key_of, replay
from benchmarks.search_page import p_value, page
from benchmarks.search_table import RATES
from sweeps.hpo.outcome import Outcome
from sweeps.hpo.space import Choice, Sampler
from trainables.io.files import read_json

COMMITTED = Path(search_replay.__file__).parents[1] / "docs" / "search.json"


def row(language: int, vision: int, rank: int, rate: float) -> dict[str, Any]:
    """Make a row: a larger placement fits better and keeps less generality; the largest is pruned."""
    strength = (language + vision) * rank / 160
    kept = {"hallucination": 0.0, "generalization_gap": 0.0, "caption_sanity": 1.0, "eval_loss": 1.0}
    evals = [{"step": 30, "exact_match": strength, "irrelevant_pass": 1 - strength / 5, **kept}]
    verdict = {"kind": "pruned" if strength > 0.9 else "completed", "step": 30, "cause": None, "reason": None}
    return {
        "language": language, "vision": vision, "rank": rank, "learning_rate": rate, "verdict": verdict,
        "best_step": 30 if strength <= 0.5 else None, "evals": evals,
    }  # fmt: skip


@pytest.fixture(scope="module")
def table() -> Table:
    dimensions = [one.values for one in SPACE.dimensions.values() if isinstance(one, Choice)]
    return Table.of([row(*point) for point in itertools.product(*dimensions)])  # type: ignore[arg-type]


def test_recorded_rows_have_the_outcomes_of_a_search(table: Table) -> None:
    assert len(table.outcomes) == 90
    point = {"language": 4, "vision": 6, "rank": 16, "learning_rate": RATES[0]}
    assert table.outcomes[key_of(point) or ""].state == "pruned"
    assert key_of({**point, "language": 0, "vision": 0}) is None
    feasible = table.outcomes[key_of({**point, "rank": 4}) or ""]
    assert feasible.is_feasible and feasible.values == pytest.approx((0.25, 0.95))


def test_only_the_admissible_dominate_a_volume() -> None:
    fit, keeps = REFERENCE
    one, other = Outcome("complete", (fit + 0.5, keeps + 0.1)), Outcome("complete", (fit + 0.2, keeps + 0.2))
    assert hypervolume([one, other]) == pytest.approx(0.5 * 0.1 + 0.2 * 0.1)
    broken = Outcome("complete", (1.0, 1.0), {"best": 0.1})
    assert hypervolume([one, other, broken, Outcome("pruned"), Outcome("failed")]) == hypervolume([one, other])
    assert hypervolume([broken]) == 0.0


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_a_replay_finds_more_with_every_cohort_and_all_in_the_end(sampler: Sampler, table: Table) -> None:
    shares = replay(table, sampler, seed=0, budget=90)
    assert len(shares) == 12  # 90 trials, 8 at a time
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_p_values_are_those_of_paired_searches() -> None:
    """Better in six of six seeds has p = 1/64 (one-sided), times the two samplers compared with random."""
    luck = [[0.1 * seed] * 6 for seed in range(1, 7)]
    better = [[0.1 * seed + 0.01 * seed] * 6 for seed in range(1, 7)]
    shares = {"random": luck, "tpe": better, "gp": luck}
    assert p_value(shares, "tpe", 24) == pytest.approx(2 / 64)
    assert p_value(shares, "gp", 24) == 1.0


def test_the_page_names_the_samplers_that_beat_random(table: Table) -> None:
    luck = [[0.1 + 0.001 * seed] * 6 for seed in range(20)]
    shares = {"random": luck, "tpe": [[0.5] * 6] * 20, "nsga2": luck}
    machine = {"date": "2026-11-21", "cpu": "2 cores", "versions": "Python 3.11"}
    text = page({"machine": machine, "shares": shares}, table)
    assert "**TPE beats random at 16, 24, 32, 48 trials.**" in text
    assert "**NSGA-II does not beat random at any of these budgets.**" in text
    assert "90 trials of the miniature" in text


@pytest.mark.skipif(not COMMITTED.exists(), reason="no table was recorded")
def test_the_recorded_table_holds_every_trial_of_the_space() -> None:
    kept = read_json(COMMITTED)
    recorded = Table.of(kept["trials"])
    assert len(recorded.outcomes) == 90
    assert recorded.whole > 0.0
    assert all(one.state != "failed" for one in recorded.outcomes.values())

"""Tests what is picked of candidates with results by row, and what is said where something is not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from analysis.candidates import Candidate, SeedEval
from analysis.decision.pick import Contender, Pick, pick
from analysis.mlflow_runs import TrialRun
from analysis.report.shipping import shipping
from analysis.study_report.answer import nearest
from trainables.constraint import CONSTRAINT, TEXT_CONSTRAINT
from trainables.pareto import parse_objectives
from trainables.probes.metric import Proportion, RowResults
from trainables.record import Measurement

FIT, GENERALITY = parse_objectives(("exact_match", "irrelevant_pass"))
VALIDATION, PICTURES = 64, 96

Make = Callable[..., Contender]


def rows_of(prefix: str, passing: int, rows: int) -> RowResults:
    return RowResults({f"{prefix}{i}": float(i < passing) for i in range(rows)})


def evaluated(step: int, exact: int, passing: int, loss: float, hallucinated: int = 0, rows: int = PICTURES):
    found = {
        "exact_match": rows_of("v", exact, VALIDATION),
        "irrelevant_pass": rows_of("p", passing, rows),
        "hallucination": rows_of("p", hallucinated, rows),
    }
    metrics = {name: one.mean for name, one in found.items()} | {"eval_loss": loss}
    counts = {name: one.proportion for name, one in found.items()}
    return Measurement("eval", step, metrics, counts, found)


@pytest.fixture
def contender(make_trial: Callable[..., TrialRun]) -> Make:
    """Build a contender from one measurement for each seed."""

    def candidate(arm: str, step: int, seeds: Sequence[Measurement], stopped: tuple[str, ...]) -> Candidate:
        trial = make_trial(f"{arm}-L2-V4")
        evals = tuple(SeedEval(trial, str(seed), one) for seed, one in enumerate(seeds))
        return Candidate(arm, step, seeds[0].scale, evals, stopped)

    baseline = candidate("A0", 0, [evaluated(0, 0, PICTURES, 4.0)], ())

    def make(arm: str, *seeds: Measurement, stopped: tuple[str, ...] = (), parameters: float = 1e5, base=baseline):
        return Contender(candidate(arm, seeds[0].step, seeds, stopped), base, parameters)

    return make


def picked(*contenders: Contender, level: float = 0.9) -> Pick:
    return pick(contenders, FIT, GENERALITY, CONSTRAINT, level)


def test_the_most_general_of_those_that_fit_alike_is_picked(contender: Make) -> None:
    dull = contender("B1", *[evaluated(60, 10, 96, 1.0)] * 3)
    best = contender("D1", *[evaluated(60, 50, 93, 0.5)] * 3)
    alike = contender("C2", *[evaluated(60, 49, 95, 0.6)] * 3)
    found = picked(dull, best, alike)
    assert found.best is not None and found.picked is not None
    assert (found.best.name, found.picked.name) == ("D1 @ 60", "C2 @ 60")
    assert {one.name for one in found.alike} == {"D1 @ 60", "C2 @ 60"}
    assert "D1 @ 60 has the best expected exact_match" in found.would_change[0]


def test_a_gain_that_is_not_shown_is_not_picked_and_comes_after_those_that_are(contender: Make) -> None:
    """One answer of 64 is within the noise; the arm that learned misses the level, and is the nearest."""
    found = picked(
        contender("A2", *[evaluated(48, 1, 96, 1.5)] * 3), contender("D3", *[evaluated(60, 40, 86, 0.5)] * 3)
    )
    assert found.picked is None
    assert [one.name for one in found.nearest] == ["D3 @ 60", "A2 @ 48"]
    weak = found.nearest[1]
    assert weak.admissible is not None and weak.admissible > 0.9
    assert [one.name for one in found.finalists] == ["D3 @ 60"], "more irrelevant rows show no gain"
    both = picked(contender("A2", *[evaluated(48, 1, 96, 1.5)] * 3), contender("A1", *[evaluated(60, 20, 96, 1.0)] * 3))
    assert both.picked is not None and [one.name for one in both.alike] == ["A1 @ 60"]


def test_who_shows_no_gain_is_not_asked_more_rows_of_generality(contender: Make) -> None:
    found = picked(contender("A2", *[evaluated(48, 1, 88, 1.5)] * 3))
    (weak,) = found.judged
    assert weak.gain is not None and weak.gain.mean > 0
    assert weak.admissible is not None and 0.1 < weak.admissible < 0.9
    assert found.finalists == ()


def test_the_correction_never_chooses_who_shows_no_gain(contender: Make) -> None:
    """Where the rows drawn leave the pick outside, nothing is chosen: the weak one would lower what is expected."""
    strong = contender("C2", *[evaluated(60, 50, 92, 0.5)] * 3)
    found = picked(strong, contender("A2", *[evaluated(48, 1, 96, 1.5)] * 3))
    assert found.picked is not None and found.picked.name == "C2 @ 60"
    assert found.corrected["exact_match"] == pytest.approx(50 / VALIDATION, abs=0.05)


def test_a_pick_far_ahead_is_settled_and_one_beside_a_better_that_may_be_admissible_is_not(contender: Make) -> None:
    first = contender("C2", *[evaluated(60, 50, 96, 0.5)] * 3)
    settled = picked(first, contender("B1", *[evaluated(60, 10, 96, 1.0)] * 3))
    undecided = picked(first, contender("D3", *[evaluated(60, 62, 89, 0.3)] * 3))
    assert settled.picked is not None and undecided.picked is not None
    assert (settled.picked.name, undecided.picked.name) == ("C2 @ 60", "C2 @ 60")
    assert settled.changes is not None and settled.changes < 0.02
    assert undecided.changes is not None and undecided.changes > 0.5
    assert shipping(settled)[0].startswith("Ship C2 @ 60, seed 0: ")
    assert shipping(undecided)[0].startswith("Undecided: with probability 0.")
    assert shipping(undecided)[1].startswith("As of now, ship C2 @ 60, seed 0: ")


def test_the_report_names_the_same_nearest_as_pareto_and_ship(contender: Make) -> None:
    """By their means D1 meets the constraint and C2 misses it by a row, but C2 is likelier: its seeds agree."""
    near = [evaluated(60, 40, passing, 0.5, 96 - passing) for passing in (96, 87, 78)]
    found = picked(contender("C2", *[evaluated(60, 45, 86, 0.4)] * 3), contender("D1", *near), level=0.999)
    assert found.picked is None
    likely = {one.candidate.arm: (one.rows_short, one.admissible) for one in found.judged}
    assert likely["D1"][0] == 0 and likely["C2"][0] == 1, likely
    assert (likely["D1"][1] or 0.0) < (likely["C2"][1] or 0.0)
    first = nearest(found)
    assert first is not None and first.name == found.nearest[0].name == "D1 @ 60"


def test_what_would_change_the_pick_is_worth_another_pick(contender: Make) -> None:
    """D1 is likelier to be admissible, but an answer ahead of the pick is no reason to take another."""
    sure = contender("A1", *[evaluated(60, 20, 96, 1.0)] * 3)
    alike = contender("D1", *[evaluated(60, 21, 89, 0.9)] * 3)
    ahead = contender("C2", *[evaluated(60, 45, 87, 0.5)] * 3)
    found = picked(sure, alike, ahead)
    assert found.picked is not None and found.picked.name == "A1 @ 60"
    likely = {one.name: one.admissible or 0.0 for one in found.judged}
    assert likely["C2 @ 60"] < likely["D1 @ 60"] < 0.9
    assert found.would_change[-1].startswith("C2 @ 60 fits better, 0.703 [")


def test_equal_generality_is_decided_by_the_price(contender: Make) -> None:
    same = [evaluated(60, 50, 95, 0.5)] * 3
    found = picked(contender("D1", *same, parameters=9e5), contender("C2", *same, parameters=2e5))
    assert found.picked is not None and found.picked.candidate.arm == "C2"


@pytest.mark.parametrize("cheap", range(4))
def test_candidates_with_equal_results_are_decided_by_the_price_alone(contender: Make, cheap: int) -> None:
    """The means of their draws must not differ by chance."""
    same = [evaluated(60, 40, 95, 0.5)] * 3
    pool = [contender(f"E{at}", *same, parameters=1e5 if at == cheap else 2e5) for at in range(4)]
    found = picked(*pool)
    assert found.picked is not None and found.picked.candidate.arm == f"E{cheap}"
    assert not any("is taken instead if more" in one for one in found.would_change)


def test_what_misses_the_constraint_by_one_row_is_not_picked_and_is_named(contender: Make) -> None:
    found = picked(contender("D3", *[evaluated(60, 40, 86, 0.5)] * 3))
    assert (found.picked, found.shipped, found.best, found.alike) == (None, None, None, ())
    (near,) = found.nearest
    assert (near.name, near.rows_short, near.seeds_admissible) == ("D3 @ 60", 1, 0)
    assert near.admissible is not None and near.admissible < 0.5


def test_nothing_reaches_the_level_on_ten_rows_and_the_rows_it_takes_are_named(contender: Make) -> None:
    few = contender("A0", evaluated(0, 0, 10, 4.0, rows=10)).candidate
    perfect = contender("C2", *[evaluated(60, 60, 10, 0.5, rows=10)] * 3, base=few)
    found = picked(perfect)
    assert found.picked is None
    assert found.judged[0].seeds_admissible == 3
    assert any("irrelevant_pass has 10 rows: even an arm without a failure" in one for one in found.unknown)


def test_rows_are_not_too_few_where_a_candidate_was_asked_enough(contender: Make) -> None:
    few = contender("A1", *[evaluated(60, 40, 10, 0.5, rows=10)] * 3)
    asked = contender("C2", *[evaluated(60, 50, 96, 0.5)] * 3)
    found = picked(few, asked)
    assert found.picked is not None and found.picked.candidate.arm == "C2"
    assert not any("even an arm without a failure" in one for one in found.unknown)


def test_a_stopped_seed_counts_as_not_admissible_and_keeps_its_last_fit(contender: Make) -> None:
    before = contender("C2", *[evaluated(30, 20, 96, 0.9)] * 3)
    after = contender("C2", *[evaluated(60, 60, 96, 0.5)] * 2, stopped=("2",))
    found = {one.name: one for one in picked(before, after).judged}
    late = found["C2 @ 60"]
    assert late.admissible is not None and late.admissible <= 2 / 3
    assert late.seeds == 3
    assert late.estimates["exact_match"].mean == pytest.approx((60 + 60 + 20) / 3 / 64)
    assert found["C2 @ 30"].admissible == pytest.approx(1.0, abs=0.05)


def test_the_admissible_seed_of_lowest_loss_is_shipped(contender: Make) -> None:
    seeds = evaluated(60, 50, 96, 0.6), evaluated(60, 50, 95, 0.4), evaluated(60, 50, 86, 0.2)
    found = picked(contender("C2", *seeds), level=0.5)
    assert found.shipped is not None
    assert found.shipped.chosen.seed == "1"
    assert found.shipped.reaches_level and found.shipped.admissible > 0.9


def test_one_seed_has_intervals_and_says_that_its_spread_is_assumed(contender: Make) -> None:
    found = picked(contender("C2", evaluated(60, 50, 96, 0.5)))
    interval = found.judged[0].estimates["exact_match"]
    assert interval.low is not None and interval.high is not None
    assert interval.low < 50 / 64 < interval.high
    assert any("the spread between seeds is assumed" in one for one in found.unknown)


def test_ten_of_ten_is_not_certain(contender: Make) -> None:
    interval = picked(contender("C2", *[evaluated(60, 64, 96, 0.5)] * 3)).judged[0].estimates["exact_match"]
    assert interval.high == 1.0
    assert interval.low is not None and interval.low < 0.98


def test_a_record_without_results_by_row_is_not_chosen_and_is_said_to_be_unknown(contender: Make) -> None:
    metrics = {"exact_match": 0.9, "irrelevant_pass": 1.0, "hallucination": 0.0, "eval_loss": 0.1}
    old = Measurement("eval", 60, metrics, {"exact_match": Proportion(58, 64)})
    found = picked(contender("D1", old))
    (one,) = found.judged
    assert found.picked is None
    assert (one.admissible, one.on_frontier) == (None, None)
    assert one.estimates["irrelevant_pass"].low is None
    low, high = one.estimates["exact_match"].low, one.estimates["exact_match"].high
    assert low is not None and high is not None and low < 0.9 < high
    assert any("D1 @ 60: no results by row" in one for one in found.unknown)


def test_what_is_reported_of_a_choice_among_many_is_corrected_downward(contender: Make) -> None:
    """Forty arms of one truth: the best looks better than it is."""
    generator = np.random.default_rng(3)

    def noisy(seed: int) -> Contender:
        one = evaluated(60, 0, 96, 0.5)
        exact = RowResults({f"v{i}": float(hit) for i, hit in enumerate(generator.random(VALIDATION) < 0.5)})
        measured = Measurement("eval", 60, {**one.metrics, "exact_match": exact.mean}, one.counts,
                               {**one.rows, "exact_match": exact})  # fmt: skip
        return contender(f"E{seed}", measured)

    found = picked(*map(noisy, range(40)))
    assert found.best is not None
    assert found.best.estimates["exact_match"].mean > 0.58
    assert found.corrected["exact_match"] == pytest.approx(0.5, abs=0.06)
    assert "fits better than" not in " ".join(shipping(found))


def test_a_choice_worth_more_than_the_pick_is_said_to_be_that_of_other_rows(contender: Make) -> None:
    """The pick is what the level leaves on these rows; other rows let a better candidate through."""
    found = picked(
        contender("A1", *[evaluated(60, 10, 96, 1.0)] * 3), contender("C2", *[evaluated(60, 45, 91, 0.5)] * 3)
    )
    assert found.picked is not None and found.picked.name == "A1 @ 60"
    assert found.corrected["exact_match"] > found.picked.estimates["exact_match"].mean + 0.02
    assert "; it fits better than A1 @ 60 because other rows choose other candidates." in " ".join(shipping(found))


def test_a_base_without_pictures_is_judged_by_its_text(contender: Make) -> None:
    def text(step: int, exact: int, kept: int) -> Measurement:
        rows = {"exact_match": rows_of("v", exact, 64), "text_retention": rows_of("t", kept, 96)}
        metrics = {name: one.mean for name, one in rows.items()} | {"eval_loss": 1.0}
        return Measurement("eval", step, metrics, {}, rows)

    fit, kept = parse_objectives(("exact_match", "text_retention"))
    base = contender("A0", text(0, 0, 96)).candidate
    arms = [contender("C1", *[text(60, 40, 95)] * 3, base=base), contender("C2", *[text(60, 60, 80)] * 3, base=base)]
    found = pick(arms, fit, kept, TEXT_CONSTRAINT)
    assert found.picked is not None and found.picked.name == "C1 @ 60"


def test_the_same_evidence_gives_the_same_pick(contender: Make) -> None:
    arms = [contender(f"C{i}", *[evaluated(60, 40 + i, 96 - i, 0.5)] * 2) for i in range(5)]
    assert picked(*arms) == picked(*arms)


def test_a_derived_candidate_can_be_picked(contender: Make) -> None:
    whole = contender("C2", *[evaluated(60, 50, 80, 0.5)] * 3)
    measured = evaluated(60, 45, 96, 0.6)
    scaled = Measurement("eval", 60, measured.metrics, measured.counts, measured.rows, "0.5")
    found = picked(whole, contender("C2", *[scaled] * 3))
    assert found.picked is not None
    assert (found.picked.name, found.picked.candidate.is_derived) == ("C2 @ 60 x 0.5", True)

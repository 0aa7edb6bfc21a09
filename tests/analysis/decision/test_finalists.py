"""Tests who the finalists are, and that a candidate and its baseline are compared on the same irrelevant rows."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from analysis.candidates import Candidate, SeedEval, finalists_command
from analysis.decision.finalists import not_asked, paired
from analysis.decision.pick import Contender, Pick, pick
from analysis.logged_measurements import with_finals
from analysis.mlflow_runs import TrialRun
from trainables.constraint import CONSTRAINT
from trainables.pareto import parse_objectives
from trainables.probes.metric import RowResults
from trainables.record import Measurement

FIT, GENERALITY = parse_objectives(("exact_match", "irrelevant_pass"))
CORE, ALL = 48, 192

Make = Callable[..., Candidate]


def rows_of(prefix: str, passing: int, rows: int, start: int = 0) -> RowResults:
    return RowResults({f"{prefix}{i}": float(i - start < passing) for i in range(start, start + rows)})


def evaluated(step: int, exact: int, passing: int, rows: int = CORE) -> Measurement:
    found = {"exact_match": rows_of("v", exact, 64), "irrelevant_pass": rows_of("p", passing, rows),
             "hallucination": rows_of("p", 0, rows)}  # fmt: skip
    metrics = {name: one.mean for name, one in found.items()} | {"eval_loss": 0.5}
    return Measurement("eval", step, metrics, {name: one.proportion for name, one in found.items()}, found)


BASE = replace(
    evaluated(0, 0, CORE),
    reserve={
        "irrelevant_pass": rows_of("p", ALL - CORE, ALL - CORE, CORE),
        "hallucination": rows_of("p", 0, ALL - CORE, CORE),
    },
)


@pytest.fixture
def candidate(make_trial: Callable[..., TrialRun]) -> Make:
    def make(arm: str, *seeds: Measurement, label: str = "") -> Candidate:
        evals = tuple(SeedEval(make_trial(f"{arm}-s{seed}", arm=arm), str(seed), one) for seed, one in enumerate(seeds))
        return Candidate(label or arm, seeds[0].step, seeds[0].scale, evals)

    return make


def picked(candidates: Sequence[Candidate], baseline: Candidate, level: float = 0.9) -> Pick:
    contenders = [Contender(one, base, 1e5) for one, base in paired(candidates, baseline)]
    return pick(contenders, FIT, GENERALITY, CONSTRAINT, level)


def test_a_candidate_asked_all_rows_is_compared_with_the_baseline_on_all_rows(candidate: Make) -> None:
    asked, other = candidate("C2", evaluated(60, 50, 180, ALL)), candidate("D1", evaluated(60, 50, 46))
    pairs = paired([asked, other], candidate("A0", BASE))
    sizes = [[len(one.evals[0].rows["irrelevant_pass"].values) for one in pair if one is not None] for pair in pairs]
    assert sizes == [[ALL, ALL], [CORE, CORE]]
    assert len(pairs[0][0].evals[0].rows["exact_match"].values) == 64


def test_all_rows_count_only_when_every_seed_was_asked_them(candidate: Make) -> None:
    """Otherwise one seed's rows would be compared with another's."""
    ((mine, base),) = paired(
        [candidate("C2", evaluated(60, 50, 180, ALL), evaluated(60, 50, 46))], candidate("A0", BASE)
    )
    assert base is not None
    for one in (*mine.evals, *base.evals):
        assert one.rows["irrelevant_pass"].values.keys() == BASE.rows["irrelevant_pass"].values.keys()
    assert mine.evals[0].rows["irrelevant_pass"].mean == 1.0  # 48 of its first 48, not 180 of 192


def test_rows_that_guards_asked_until_they_decided_are_not_used(candidate: Make) -> None:
    stopped_early = replace(evaluated(60, 50, 46), reserve={"irrelevant_pass": rows_of("p", 0, 8, CORE)})
    ((mine, _),) = paired([candidate("C2", stopped_early)], candidate("A0", BASE))
    assert mine.evals[0].rows["irrelevant_pass"].mean == pytest.approx(46 / 48)


def test_a_record_without_reserve_or_rows_stays_as_it_is(candidate: Make) -> None:
    old = Measurement("eval", 60, {"exact_match": 0.5})
    for base in (candidate("A0", evaluated(0, 0, CORE)), candidate("A0", Measurement("eval", 0, {})), None):
        ((mine, known),) = paired([candidate("C2", old)], base)
        assert mine.evals[0].measured == old and known == base
    assert picked([candidate("C2", evaluated(60, 50, 46))], candidate("A0", evaluated(0, 0, CORE))).finalists
    assert (
        not_asked(picked([candidate("C2", evaluated(60, 50, 46))], candidate("A0", evaluated(0, 0, CORE))).judged) == ()
    )


def test_the_same_rate_on_more_rows_is_admissible(candidate: Make) -> None:
    base = candidate("A0", BASE)
    before = picked([candidate("C2", *[evaluated(60, 50, 46)] * 3)], base)
    assert before.picked is None
    assert [one.name for one in before.finalists] == ["C2 @ 60"]
    assert [one.name for one in not_asked(before.finalists)] == ["C2 @ 60"]
    after = picked([candidate("C2", *[evaluated(60, 50, 184, ALL)] * 3)], base)
    assert after.picked is not None and after.picked.name == "C2 @ 60"
    assert not_asked(after.finalists) == ()


def test_rows_short_and_admissible_seeds_count_the_rows_that_were_asked(candidate: Make) -> None:
    """Of 48 rows six more must pass, of 192 as many more as the same rate takes."""
    core, asked = candidate("C2", evaluated(60, 50, 38)), candidate("D1", evaluated(60, 50, 152, ALL))
    found = {one.name: one for one in picked([core, asked], candidate("A0", BASE)).judged}
    assert (found["C2 @ 60"].rows_short, found["D1 @ 60"].rows_short) == (6, 21)
    lucky = candidate("C2", evaluated(60, 50, 180, ALL))
    on_core = replace(lucky.evals[0].measured, metrics={**lucky.evals[0].metrics, "irrelevant_pass": 0.5})
    lucky = replace(lucky, evals=(replace(lucky.evals[0], measured=on_core),))
    (one,) = picked([lucky], candidate("A0", BASE)).judged
    assert one.seeds_admissible == 1, "the core missed it, all rows do not"


def test_the_finalists_are_what_can_still_be_picked(candidate: Make) -> None:
    pool = [
        candidate("A1", evaluated(60, 40, 48)),
        candidate("B1", evaluated(60, 10, 48)),  # told apart from the best
        candidate("C1", evaluated(60, 39, 48)),
        candidate("D1", evaluated(60, 60, 45)),  # fits better, and may meet the constraint
        candidate("D2", evaluated(60, 61, 24)),  # clearly does not
        candidate("B2", evaluated(60, 0, 48)),  # learned nothing
    ]
    found = picked(pool, candidate("A0", BASE))
    assert found.picked is not None
    names = [one.name for one in found.finalists]
    assert names[0] == found.picked.name
    assert {*names} == {"A1 @ 60", "C1 @ 60", "D1 @ 60"}


def test_candidates_are_compared_on_the_rows_that_all_of_them_answered(candidate: Make) -> None:
    """The rows beyond the core are easier here: who was asked them must not pass for more general."""
    asked = candidate("C2", evaluated(60, 50, 180, ALL))
    easy = {row: float(int(row[1:]) >= 4) for row in asked.evals[0].rows["irrelevant_pass"].values}
    measured = replace(asked.evals[0].measured, rows={**asked.evals[0].rows, "irrelevant_pass": RowResults(easy)})
    asked = replace(asked, evals=(replace(asked.evals[0], measured=measured),))  # 44 of 48, 188 of 192
    core = candidate("D1", evaluated(60, 50, 45))  # 45 of 48
    found = picked([asked, core], candidate("A0", BASE), level=0.5)
    assert found.picked is not None and found.picked.name == "D1 @ 60"
    values = {one.name: one.estimates["irrelevant_pass"].mean for one in found.judged}
    assert values == {"C2 @ 60": pytest.approx(188 / 192), "D1 @ 60": pytest.approx(45 / 48)}
    assert any("compared with each other on the 48 rows of irrelevant_pass" in one for one in found.unknown)


def test_results_on_all_rows_replace_those_of_the_same_weights_alone() -> None:
    evals = [evaluated(30, 20, 40), evaluated(60, 50, 46), replace(evaluated(60, 30, 47), scale="0.5")]
    finals = [replace(evaluated(60, 30, 180, ALL), scale="0.5")]
    found = with_finals([*evals, Measurement("train", 60, {"step_loss": 1.0})], finals)
    assert found[:2] == evals[:2] and found[3].kind == "train"
    assert found[2].rows["irrelevant_pass"].mean == 180 / 192
    assert found[2].rows["exact_match"] == evals[2].rows["exact_match"]
    assert found[2].metrics == evals[2].metrics  # of the core, as those of every other eval


def test_the_command_names_trials_where_an_arm_has_several_settings(candidate: Make) -> None:
    one, several = candidate("C2", *[evaluated(60, 50, 46)] * 2), [evaluated(60, 50, 46)] * 2
    words = shlex.split(finalists_command("stage4", [one, candidate("C2", *several, label="C2 r8")]))
    assert words[:4] == ["footprint", "finalists", "--experiment", "stage4"]
    assert words[5::2] == ["C2 @ 60", "C2-s0 @ 60", "C2-s1 @ 60"]

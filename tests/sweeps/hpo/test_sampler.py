"""Tests ask and tell over a small space with known outcomes: states, constraints, repeats, killed searches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sweeps.hpo.outcome import Outcome
from sweeps.hpo.points import is_baseline_point
from sweeps.hpo.sampler import Searcher, SearchSettings
from sweeps.hpo.space import Choice, LogRange, Point, Sampler, Space
from trainables.pareto import parse_objectives

SPACE = Space({"language": Choice((0, 1, 2, 4)), "vision": Choice((0, 2)), "rank": Choice((4, 16))})
OBJECTIVES = parse_objectives(("exact_match", "irrelevant_pass"))
ARMS = 14  # 4 x 2 x 2 points, but those two that place nothing

MakeSearcher = Callable[..., Searcher]


def key_of(point: Point) -> str | None:
    return None if is_baseline_point(point) else " ".join(str(point[name]) for name in SPACE.dimensions)


def known(point: Point) -> Outcome:
    """Return the outcome of a trial: larger ones fit better and keep less; four language layers at rank 16 fail."""
    size = float(point["language"]) + float(point["vision"]) + float(point["rank"]) / 16
    values = (size / 10, 1 - size / 20)
    if point["language"] == 4:
        return Outcome("pruned", (), {"floor": 0.1}) if point["rank"] == 16 else Outcome("failed")
    return Outcome("complete", values, {"floor": -0.1 if point["language"] < 2 else 0.05})


def settings(sampler: Sampler, seed: int = 0, cohort: int = 4) -> SearchSettings:
    return SearchSettings(SPACE, OBJECTIVES, sampler, cohort, seed)


def search(searcher: Searcher, budget: int) -> list[str]:
    """Ask and tell until this many trials were asked for; returns their keys in order."""
    keys = []
    while searcher.asked_count < budget and (asked := searcher.ask(min(4, budget - searcher.asked_count))):
        for one in asked:
            keys.append(one.key)
            searcher.tell(one.key, known(one.point))
    return keys


def url(path: Path) -> str:
    return f"sqlite:///{path / 'search.db'}"


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_no_trial_is_asked_for_twice_and_the_whole_space_is_found(sampler: Sampler) -> None:
    searcher = Searcher(settings(sampler, cohort=8), None, key_of)
    keys = search(searcher, ARMS + 5)
    assert len(keys) == len(set(keys)) == ARMS
    assert searcher.ask(1) == []


@pytest.mark.slow
def test_the_gaussian_process_asks_for_cohorts_too() -> None:
    keys = search(Searcher(settings("gp"), None, key_of), 10)
    assert len(keys) == len(set(keys)) == 10


def test_a_whole_cohort_is_asked_before_any_result_is_told() -> None:
    searcher = Searcher(settings("tpe"), None, key_of)
    asked = searcher.ask(4)
    assert len({one.key for one in asked}) == 4
    assert searcher.asked_count == 4
    assert searcher.unfinished() == asked


def test_optuna_knows_states_values_and_constraints() -> None:
    searcher = Searcher(settings("random"), None, key_of)
    search(searcher, ARMS)
    trials = {key: [] for key in searcher.outcomes}
    for trial in searcher._study.trials:
        key = key_of(searcher._point(trial.params))
        if key is None:
            assert trial.state.name == "FAIL"
        else:
            trials[key].append(trial)
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for key, repeats in trials.items():
        outcome = searcher.outcomes[key]
        for trial in repeats:  # every suggestion of a trial was told the same
            assert trial.state.name == states[outcome.state]
            assert tuple(trial.values or ()) == outcome.values
            assert trial.constraints == dict(outcome.constraints)
    assert any(len(repeats) > 1 for repeats in trials.values()), "no suggestion was repeated: the case is not tested"


def test_best_trials_are_the_feasible_frontier_as_dominance_has_it() -> None:
    import numpy as np

    from trainables.pareto import as_costs, non_dominated

    searcher = Searcher(settings("nsga2"), None, key_of)
    search(searcher, ARMS)
    feasible = {key: one for key, one in searcher.outcomes.items() if one.is_feasible}
    keep = non_dominated(as_costs(np.array([one.values for one in feasible.values()]), ("higher", "higher")))
    expected = {key for key, kept in zip(feasible, keep, strict=True) if kept}
    found = {key_of(searcher._point(trial.params)) for trial in searcher._study.best_trials}
    assert found == expected
    assert len(expected) < len([one for one in searcher.outcomes.values() if one.state == "complete"])


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_search_killed_between_ask_and_tell_continues_as_if_not(sampler: Sampler, tmp_path: Path) -> None:
    undisturbed = search(Searcher(settings(sampler), None, key_of), 10)
    searcher = Searcher(settings(sampler), url(tmp_path), key_of)
    keys = search(searcher, 4)
    asked = searcher.ask(4)
    searcher.tell(asked[0].key, known(asked[0].point))
    del searcher  # killed with three trials running
    again = Searcher(settings(sampler), url(tmp_path), key_of)
    assert again.asked_count == 8
    assert {one.key for one in again.unfinished()} == {one.key for one in asked[1:]}
    for one in again.unfinished():
        again.tell(one.key, known(one.point))
    assert again.unfinished() == []
    assert [*keys, *(one.key for one in asked), *search(again, 10)] == undisturbed


def test_a_trial_killed_while_it_was_asked_for_is_given_up(tmp_path: Path) -> None:
    searcher = Searcher(settings("random"), url(tmp_path), key_of)
    trial = searcher._study.ask()  # killed here, before it had a value for every dimension
    again = Searcher(settings("random"), url(tmp_path), key_of)
    assert again.unfinished() == []
    assert again._study.trials[trial.number].state.name == "FAIL"
    assert len(search(again, 4)) == 4


def test_after_a_kill_between_two_constraints_the_rest_is_told(tmp_path: Path) -> None:
    searcher = Searcher(settings("random"), url(tmp_path), key_of)
    (asked,) = searcher.ask(1)
    searcher._running[asked.key][0].set_constraint("floor", 0.5)
    again = Searcher(settings("random"), url(tmp_path), key_of)
    again.tell(asked.key, Outcome("pruned", (), {"floor": 0.5, "ceiling": -0.1}))
    assert again._study.trials[-1].constraints == {"floor": 0.5, "ceiling": -0.1}


def test_a_sampler_that_only_repeats_itself_gets_random_points(monkeypatch: pytest.MonkeyPatch) -> None:
    from optuna.samplers import RandomSampler

    class Stuck(RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> int:
            return {"language": 1, "vision": 1, "rank": 0}[param_name]

    monkeypatch.setattr("sweeps.hpo.sampler._sampler", lambda *_: Stuck())
    searcher = Searcher(settings("random"), None, key_of)
    assert len(search(searcher, 9)) == 9


def test_the_same_seed_asks_for_the_same_and_another_for_others() -> None:
    first, second, other = (search(Searcher(settings("tpe", seed), None, key_of), 8) for seed in (0, 0, 1))
    assert first == second != other


def test_numbers_keep_their_order_and_words_do_not() -> None:
    space = Space(
        {
            "language": Choice((0, 1, 2)), "vision": Choice((2,)), "rank": Choice((4, 16, 64)),
            "quantization": Choice(("none", "int8")), "learning_rate": LogRange(1e-5, 1e-3),
        }
    )  # fmt: skip
    searcher = Searcher(
        SearchSettings(space, OBJECTIVES, "random", 4, 0), None, lambda point: str(sorted(point.items()))
    )
    kinds = {name: type(one).__name__ for name, one in searcher._distributions.items()}
    assert kinds == {
        "language": "IntDistribution", "vision": "CategoricalDistribution", "rank": "IntDistribution",
        "quantization": "CategoricalDistribution", "learning_rate": "FloatDistribution",
    }  # fmt: skip
    random = Random(0)
    for _ in range(20):
        point = space.draw(random)
        assert searcher._point(searcher._params(point)) == point
    for one in searcher.ask(20):
        assert one.point["rank"] in (4, 16, 64) and 1e-5 <= float(one.point["learning_rate"]) <= 1e-3

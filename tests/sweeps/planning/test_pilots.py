"""Pilots: which trials try which rates, and what a launch may ask for."""

from __future__ import annotations

import pytest

from sweeps.planning.mixes import Mix, expand_mixes
from sweeps.planning.pilots import (
    at_chosen_rates,
    check_study,
    parse_rates,
    pilot_arms,
    pilots_text,
    undecided,
    with_chosen,
)
from sweeps.planning.space import Axes, expand
from sweeps.response import STUDY as RESPONSE
from sweeps.stage4 import STUDY
from tests.sweeps.planned_trials import sources
from trainables.errors import UserError
from trainables.rates import RateChoice, TriedRate
from trainables.schedule import rate_factor
from trainables.sharing_keys import cohort_key
from trainables.spec import Source, TrialSpec


def trials(**axes: object) -> list[TrialSpec]:
    return expand(STUDY, Axes(**{"only": ("A1", "C2"), "fixed": {"steps": 120}, **axes}), sources())  # type: ignore[arg-type]


def chosen(rate: float | None) -> RateChoice:
    tried = tuple(TriedRate(rate=one, loss=1.0) for one in (1e-5, 2e-5, 3e-5))
    return RateChoice(arm="A1", study_arm="A1", tried=tried, chosen=rate)


def test_each_arm_tries_three_rates_on_the_first_quarter_of_the_schedule() -> None:
    specs = trials(seeds=3)
    arms = pilot_arms(specs)

    assert [arm.name for arm in arms] == ["A1", "C2"] and [len(arm.trials) for arm in arms] == [3, 3]
    for arm in arms:
        own = arm.trials[0]
        assert [one.learning_rate for one in arm.pilots] == pytest.approx(
            [own.learning_rate / 2.15, own.learning_rate, own.learning_rate * 2.15]
        )
        for pilot in arm.pilots:
            assert pilot.vision_learning_rate / pilot.learning_rate == pytest.approx(
                own.vision_learning_rate / own.learning_rate
            )
            assert (pilot.steps, pilot.last_step, pilot.eval_every_steps, pilot.seed) == (120, 30, 30, 0)
    assert len({cohort_key(one) for arm in arms for one in arm.pilots}) == 1, "pilots train together"


def test_a_pilot_has_the_rates_of_the_whole_schedule_not_of_a_shorter_one() -> None:
    pilot = pilot_arms(trials())[0].pilots[1]
    shape = pilot.warmup_ratio, pilot.min_rate_ratio, pilot.schedule

    last = rate_factor(pilot.last_step - 1, pilot.steps, *shape)
    assert last > 0.9, "a schedule of a quarter would have ended near its lowest rate"
    assert rate_factor(pilot.last_step - 1, pilot.last_step, *shape) < 0.2


def test_every_rank_quantization_and_mix_is_an_arm_of_its_own() -> None:
    mixes = Mix(None, 0.0), Mix(Source(path="/data/general", sha256="general"), 0.1)  # type: ignore[arg-type]
    axes = Axes(only=("A1",), ranks=(8, 16), quantizations=("nf4", "int8"), seeds=2, fixed={"steps": 120})
    arms = pilot_arms(expand_mixes(STUDY, axes, sources(), mixes))

    assert len(arms) == 2 * 2 * 2 and all(len(arm.trials) == 2 for arm in arms)
    assert len({arm.key for arm in arms}) == 8 and arms[0].name == "A1-r8-nf4-mix0"


def test_more_seeds_have_the_pilots_of_the_first_launch() -> None:
    first, more = (pilot_arms(trials(seeds=count)) for count in (1, 3))

    assert [one.key for one in first] == [one.key for one in more]
    assert undecided(more, {first[0].key: chosen(None)}) == [more[1]]


def test_a_fixed_vision_rate_stays() -> None:
    specs = trials(fixed={"steps": 120, "vision_learning_rate": 5e-4})

    assert {one.vision_learning_rate for arm in pilot_arms(specs, True) for one in arm.pilots} == {5e-4}


def test_all_seeds_train_at_the_chosen_rate_as_if_it_were_given() -> None:
    specs = trials(seeds=2)
    arm = pilot_arms(specs)[0]
    rate = arm.pilots[2].learning_rate
    given = trials(only=("A1",), seeds=2, learning_rates=(rate,))

    assert [one.trial_id for one in with_chosen(arm, chosen(rate))] == [one.trial_id for one in given[1:]]
    assert with_chosen(arm, chosen(None)) == list(arm.trials) == with_chosen(arm, None)


def test_a_later_launch_plans_the_chosen_rates() -> None:
    specs = trials()
    arms = pilot_arms(specs)
    rate = arms[1].pilots[0].learning_rate
    planned = at_chosen_rates(specs, arms, {arms[1].key: chosen(rate)})

    assert [one.learning_rate for one in planned[1:]] == [specs[1].learning_rate, rate]
    assert planned[0] == specs[0]


def test_pilots_are_known_by_their_specification_and_trials_keep_their_ids() -> None:
    arm = pilot_arms(trials())[0]

    assert len({one.trial_id for one in (*arm.pilots, *arm.trials)}) == 4
    assert not {"pilot_steps", "replay", "replay_ratio"} & arm.trials[0].identity().keys()
    assert arm.pilots[1].identity()["pilot_steps"] == 30
    assert arm.pilots[1].baseline().trial_id == arm.trials[0].baseline().trial_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", (False, ())), ("1e-4,3e-4", (False, (1e-4, 3e-4))), ("auto", (True, ())), ("auto:3e-4", (True, (3e-4,)))],
)
def test_rates_are_given_or_chosen(text: str, expected: tuple[bool, tuple[float, ...]]) -> None:
    assert parse_rates(text) == expected


@pytest.mark.parametrize("text", ["auto,1e-4", "1e-4,auto", "auto,auto", "auto:1e-4,auto:2e-4"])
def test_auto_together_with_rates_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be auto or rates") as refused:
        parse_rates(text)
    hint = (refused.value.hint or "").split()[1]
    assert parse_rates(hint) == (True, (1e-4,)), "the hint works"


@pytest.mark.parametrize("text", ["autoo", "1e-4,x", "auto:", "auto:x", "AUTO"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--lr must be"):
        parse_rates(text)


def test_a_study_that_varies_the_rate_is_refused() -> None:
    check_study(STUDY)
    with pytest.raises(UserError, match="study response varies the rate itself"):
        check_study(RESPONSE)


def test_a_schedule_must_be_long_enough_to_be_cut() -> None:
    assert pilot_arms(trials(fixed={"steps": 4}))[0].pilots[0].last_step == 1
    with pytest.raises(UserError, match="at least 4, but A1 has 3"):
        pilot_arms(trials(fixed={"steps": 3}))


def test_the_plan_says_what_pilots_cost_and_when_none_reaches_its_rate() -> None:
    text = pilots_text(pilot_arms(trials(seeds=2)))
    late = pilots_text(pilot_arms(trials(fixed={"steps": 120, "warmup_ratio": 0.25})))

    assert "6 pilots at seed 0" in text and "30 steps, 180 in all beside 480" in text and "warm-up" not in text
    assert "ends before warm-up does" in late and pilots_text(()) == ""

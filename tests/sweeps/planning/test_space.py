"""Tests how axes become trials: names, scaling, duplicates, budgets."""

from __future__ import annotations

import pytest
from planned_trials import sources

from sweeps.planning.space import Axes, _check_count, expand
from sweeps.stage4 import STUDY
from sweeps.study import Arm, Study
from trainables.errors import UserError
from trainables.spec import parse_spec


def test_the_matrix_has_twelve_placements() -> None:
    trials = {spec.name: spec for spec in expand(STUDY, Axes(), sources())}
    placements = {name: (spec.placement.language, spec.placement.vision) for name, spec in trials.items()}
    assert placements == {
        "A0": (0, 0), "A1": (2, 0), "A2": (4, 0),
        "B1": (0, 2), "B2": (0, 4), "B3": (0, 6),
        "C1": (2, 2), "C2": (2, 4), "C3": (2, 6),
        "D1": (4, 2), "D2": (4, 4), "D3": (4, 6),
    }  # fmt: skip
    first = trials["C2"]
    assert (first.rank, first.alpha, first.dropout, first.weight_decay, first.warmup_ratio) == (16, 32, 0.1, 0.1, 0.2)
    assert (first.learning_rate, first.vision_learning_rate) == (1e-4, 3e-4)


def test_recommended_is_six_arms() -> None:
    assert set(STUDY.recommended) == {"A1", "A2", "B2", "B3", "C2", "C3"}


def test_axes_multiply_and_keep_ratios() -> None:
    axes = Axes(only=("C2",), ranks=(8, 32), learning_rates=(1e-4, 3e-4), quantizations=("nf4", "int8"), seeds=3)
    trials = expand(STUDY, axes, sources())
    arms = [spec for spec in trials if not spec.placement.is_baseline]
    assert len(arms) == 2 * 2 * 2 * 3
    assert {spec.name for spec in trials if spec.placement.is_baseline} == {"A0-nf4", "A0-int8"}
    assert {(spec.rank, spec.alpha) for spec in arms} == {(8, 16.0), (32, 64.0)}
    rates = {(spec.learning_rate, round(spec.vision_learning_rate, 10)) for spec in arms}
    assert rates == {(1e-4, 3e-4), (3e-4, 9e-4)}
    assert "C2-r8-lr0.0001-nf4-s0" in {spec.name for spec in arms}


def test_equal_trials_are_one_trial() -> None:
    trials = expand(STUDY, Axes(only=("A1", "A0", "A1"), ranks=(16, 16)), sources())
    assert [spec.placement.language for spec in trials] == [0, 2]


def test_seeds_share_one_baseline_and_one_data_order() -> None:
    trials = expand(STUDY, Axes(only=("A1",), seeds=3), sources())
    assert [spec.name for spec in trials] == ["A0", "A1-s0", "A1-s1", "A1-s2"]
    assert {spec.data_seed for spec in trials} == {0}
    whole = [spec.name for spec in expand(STUDY, Axes(seeds=2), sources())]
    assert whole[:2] == ["A0", "A1-s0"]
    assert len(whole) == 1 + 2 * 11


def test_a_later_budget_replaces_an_earlier_one() -> None:
    assert expand(STUDY, Axes(), sources())[-1].steps == round(45_000 / 16)
    assert expand(STUDY, Axes(fixed={"steps": 7}), sources())[-1].steps == 7
    miniature = sources(is_miniature=True, train_rows=960)
    assert expand(STUDY, Axes(), miniature)[-1].steps == STUDY.miniature["steps"]
    rows = STUDY.miniature["batch_rows"] * STUDY.miniature.get("accumulation_steps", 1)
    assert expand(STUDY, Axes(fixed={"epochs": 2.0}), miniature)[-1].steps == round(2 * 960 / rows)


def test_on_a_base_that_sees_nothing_arms_place_their_language_half() -> None:
    blind = sources(sees=False)
    assert [str(spec.placement) for spec in expand(STUDY, Axes(), blind)] == ["L0-V0", "L2-V0", "L4-V0"]
    assert [spec.name for spec in expand(STUDY, Axes(only=("C2",)), blind)] == ["A0", "C2"]
    with pytest.raises(UserError, match="the base has no vision tower and B1, B3 has no language layers"):
        expand(STUDY, Axes(only=("B1", "B3")), blind)


@pytest.mark.parametrize("key", ["batch_rows", "accumulation_steps"])
@pytest.mark.parametrize("value", [0, -2, "two", 1.5])
def test_a_budget_in_passes_needs_rows_in_a_step(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"`{key}` must be a whole number, 1 or more, but got {value!r}"):
        expand(STUDY, Axes(fixed={key: value, "epochs": 1.0}), sources())


@pytest.mark.parametrize(
    ("axes", "message", "hint"),
    [
        (Axes(only=("C9",)), "an arm must be one of study stage4, but got `C9`", "did you mean"),
        (Axes(only=("c2",)), "an arm must be one of study stage4, but got `c2`", "did you mean `C2`?"),
        (Axes(ranks=(0,)), "`rank`: input should be greater than or equal to 1, but got 0", ""),
        (Axes(quantizations=("nf3",)), "`quantization`: input should be 'none', 'int8', 'fp4', 'nf4'", ""),  # type: ignore[arg-type]
        (Axes(learning_rates=(-1e-4,)), "`learning_rate`: input should be greater than 0", ""),
        (Axes(fixed={"eval_evry_steps": 5}), "`eval_evry_steps` is not a setting of a trial", "`eval_every_steps`"),
    ],
)
def test_bad_axes_are_named(axes: Axes, message: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        expand(STUDY, axes, sources())
    assert message in error.value.message
    assert hint in (error.value.hint or "")


def test_settings_of_an_arm_override_the_study_and_the_command_line_overrides_both() -> None:
    study = Study(
        name="own", question="?",
        arms=(Arm("little", 1, 0, settings={"epochs": 0.1, "learning_rate": 5e-5, "batch_rows": 1},
                  miniature={"learning_rate": 1e-3}),
              Arm("much", 1, 0, settings={"epochs": 2.0})),
        settings={"rank": 4, "alpha": 8.0, "learning_rate": 1e-4, "vision_learning_rate": 3e-4, "batch_rows": 8,
                  "accumulation_steps": 1, "steps": 7},
    )  # fmt: skip
    little, much = expand(study, Axes(), sources(train_rows=1000))[-2:]
    assert (little.steps, little.learning_rate, little.batch_rows) == (100, 5e-5, 1)
    assert (much.steps, much.learning_rate, much.batch_rows) == (250, 1e-4, 8)
    on_the_miniature = expand(study, Axes(), sources(is_miniature=True, train_rows=1000))
    assert on_the_miniature[1].learning_rate == 1e-3
    assert {spec.steps for spec in expand(study, Axes(fixed={"steps": 5}), sources())[1:]} == {5}


# ---------------------------------------------------------------- settings merged over the defaults
ARMS = (Arm("L1-all", language=1, vision=0), Arm("L1-attention", language=1, vision=0, settings={"dropout": 0.0}))


@pytest.mark.parametrize("is_miniature", [False, True])
def test_a_study_of_nothing_but_arms_has_the_defaults_of_a_trial(is_miniature: bool) -> None:
    [_, spec, other] = expand(Study("plain", "?", ARMS), Axes(), sources(is_miniature=is_miniature))
    plain = {"name": "L1-all", "placement": {"language": 1}, **sources().as_settings()}
    assert spec == parse_spec(plain)
    assert other == parse_spec({**plain, "name": "L1-attention", "dropout": 0.0})


def test_axes_scale_the_defaults_of_what_a_study_leaves_out() -> None:
    study = Study("plain", "?", ARMS[:1], settings={"batch_rows": 4})
    axes = Axes(ranks=(8, 32), learning_rates=(2e-4,), fixed={"epochs": 0.01})
    arms = expand(study, axes, sources(train_rows=4000))[1:]
    assert [(one.rank, one.alpha) for one in arms] == [(8, 16.0), (32, 64.0)]
    assert {(one.learning_rate, one.vision_learning_rate, one.steps) for one in arms} == {(2e-4, 6e-4, 10)}


def test_each_layer_of_settings_replaces_the_one_before() -> None:
    layers = {
        "settings": {"rank": 2, "alpha": 2.0, "dropout": 0.2, "weight_decay": 0.2, "warmup_ratio": 0.02},
        "miniature": {"alpha": 3.0, "dropout": 0.3, "weight_decay": 0.3, "warmup_ratio": 0.03},
    }
    arm = Arm(
        "A", language=1, vision=0, settings={"dropout": 0.4, "weight_decay": 0.4, "warmup_ratio": 0.04},
        miniature={"weight_decay": 0.5, "warmup_ratio": 0.05},
    )  # fmt: skip
    keys = ("min_rate_ratio", "rank", "alpha", "dropout", "weight_decay", "warmup_ratio")
    study, axes = Study("layers", "?", (arm,), **layers), Axes(fixed={"warmup_ratio": 0.06})
    small, real = (expand(study, axes, sources(is_miniature=one))[-1] for one in (True, False))
    assert [getattr(small, key) for key in keys] == [0.1, 2, 3.0, 0.4, 0.5, 0.06]
    assert [getattr(real, key) for key in keys] == [0.1, 2, 2.0, 0.4, 0.4, 0.06]


def test_arm_and_seed_of_a_trial_are_fields_of_it() -> None:
    trials = expand(Study("plain", "?", ARMS), Axes(ranks=(8, 16), seeds=2), sources())
    assert {(one.arm, one.rank, one.seed) for one in trials[1:]} == {
        (arm.name, rank, seed) for arm in ARMS for rank in (8, 16) for seed in (0, 1)
    }
    assert trials[1].name == "L1-all-r8-s0"
    assert (trials[0].name, trials[0].arm) == ("A0", "A0")


def test_trials_have_the_format_of_their_experiment() -> None:
    of_format = {one: expand(STUDY, Axes(), sources(), one) for one in (1, 2)}
    assert {spec.format for spec in of_format[1]} == {1} and {spec.format for spec in of_format[2]} == {2}
    assert not {spec.trial_id for spec in of_format[1]} & {spec.trial_id for spec in of_format[2]}


def test_what_a_launch_fixes_does_not_follow_rank_or_rate() -> None:
    fixed = {"alpha": 8.0, "vision_learning_rate": 5e-4}
    axes = Axes(only=("C2",), ranks=(4, 8), learning_rates=(1e-4, 3e-4), fixed=fixed)
    arms = expand(STUDY, axes, sources())[1:]
    assert {(one.rank, one.alpha) for one in arms} == {(4, 8.0), (8, 8.0)}
    assert {one.vision_learning_rate for one in arms} == {5e-4}


@pytest.mark.parametrize(("seeds", "is_refused"), [(10_000, False), (10_001, True), (10**4000, True)])
def test_more_trials_than_one_launch_takes_are_refused_before_they_are_made(seeds: int, is_refused: bool) -> None:
    def check() -> None:
        _check_count(1, Axes(seeds=seeds), 1)

    if is_refused:
        with pytest.raises(UserError, match="at most 10,000 trials"):
            check()
    else:
        check()


@pytest.mark.parametrize("epochs", [float("inf"), float("nan"), -1.0, 0.0, 1e11])
def test_epochs_that_cannot_be_trained_are_refused(epochs: float) -> None:
    with pytest.raises(UserError, match="epochs must be above 0"):
        expand(STUDY, Axes(only=("A1",), fixed={"epochs": epochs}), sources())

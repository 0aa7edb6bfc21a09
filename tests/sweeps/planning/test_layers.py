"""Tests `--layers` and `--modules`: how rules are read, which layers they choose, and which trials they make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned_trials import sources

from sweeps.commands import STUDY as COMMANDS
from sweeps.modules import STUDY as MODULES
from sweeps.planning.layers import LayerRule, layer_rule, layer_rules, module_kinds, placed_by
from sweeps.planning.sources import Sources
from sweeps.planning.space import Axes, expand
from sweeps.stage4 import STUDY
from sweeps.study import Arm
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import TowerName
from trainables.placement import Placement
from trainables.spec import Source, TrialSpec

SIZES: dict[TowerName, int] = {"language": 8, "vision": 12}
COUNTS = Placement(language=3, vision=2)
NORMS: dict[TowerName, tuple[float, ...]] = {
    "language": (1.0, 9.0, 2.0, 8.0, 9.0, 0.5, 0.1, 0.2),
    "vision": (0.0,) * 11 + (1.0,),
}


def on_miniature() -> Sources:
    return replace(sources(is_miniature=True, train_rows=960), base=Source(path=BASE_DIRECTORY, sha256="base"))


@pytest.mark.parametrize(
    ("rule", "language", "vision"),
    [
        ("last", (5, 6, 7), (10, 11)),
        ("last-1", (7,), (11,)),
        ("first", (0, 1, 2), (0, 1)),
        ("first-4", (0, 1, 2, 3), (0, 1, 2, 3)),
        ("every-2", (1, 3, 5, 7), (1, 3, 5, 7, 9, 11)),
        ("every-3", (1, 4, 7), (2, 5, 8, 11)),
        ("every-1", tuple(range(8)), tuple(range(12))),
        ("all", tuple(range(8)), tuple(range(12))),
        ("gradient", (1, 3, 4), (0, 11)),  # of equal norms the lower layer
        ("gradient-1", (1,), (11,)),
    ],
)
def test_which_layers_a_rule_chooses(rule: str, language: tuple[int, ...], vision: tuple[int, ...]) -> None:
    found = placed_by(layer_rule(rule), COUNTS, SIZES, NORMS)
    assert found.indices("language", 8) == language
    assert found.indices("vision", 12) == vision


def test_last_layers_are_never_listed_so_that_equal_placements_are_equal_trials() -> None:
    assert placed_by(layer_rule("all"), COUNTS, SIZES) == Placement(language=8, vision=12)
    assert placed_by(layer_rule("first-8"), Placement(language=1), SIZES) == Placement(language=8)
    assert placed_by(layer_rule("last"), FIRST, SIZES) == Placement(language=2)
    steep = {"language": tuple(map(float, range(8))), "vision": (0.0,) * 12}
    assert placed_by(layer_rule("gradient"), Placement(language=2), SIZES, steep) == Placement(language=2)  # type: ignore[arg-type]


FIRST = Placement(language=2, language_indices=(0, 1))


def test_a_tower_without_adapted_layers_stays_so() -> None:
    assert placed_by(layer_rule("all"), Placement(language=1, modules="mlp"), SIZES) == Placement(
        language=8, modules="mlp"
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("every-0", "`every` needs a distance from 1 on, but got `every-0`", "every-2"),
        ("every", "`every` needs a distance", "every-2"),
        ("first-0", "`first` must choose at least 1 layer", "first-2"),
        ("all-3", "`all` takes no number", "--layers all"),
        ("frist-2", "must be rules among last, first, every-N, all and gradient, but got `frist-2`", "`first`"),
        ("first--2", "but got `first--2`", "first"),
        ("first-2-3", "but got `first-2-3`", "first"),
        ("2", "but got `2`", "first, gradient, last"),
        ("last,,first", "", ""),
    ],
)
def test_a_rule_that_cannot_be_is_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        layer_rules(text)
    assert message in caught.value.message and hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "hint"), [("attentoin", "`attention`"), ("q_proj", "attention, gate-up, mlp"), ("", "")]
)
def test_an_unknown_kind_is_named(text: str, hint: str) -> None:
    if not text:
        assert module_kinds(text) == ()
        return
    with pytest.raises(UserError, match="--modules must be kinds among attention, mlp, gate-up, all") as caught:
        module_kinds(text)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("rule", ["first-99", "last-9", "gradient-9", "every-9"])
def test_more_layers_than_the_base_has(rule: str) -> None:
    with pytest.raises(UserError, match=f"{rule} does not fit its 8 language layers") as caught:
        placed_by(layer_rule(rule), Placement(language=1), SIZES, NORMS)
    assert f"{rule.rsplit('-', 1)[0]}-8" in (caught.value.hint or "")


def test_kinds_and_rules_cross_with_arms_and_are_in_the_names() -> None:
    axes = Axes(only=("A1", "C2"), modules=("attention", "mlp"), layers=layer_rules("last,first"))
    specs = {spec.name: str(spec.placement) for spec in expand(STUDY, axes, on_miniature())}
    assert specs == {
        "A0": "L0-V0",
        "A1-attention-last": "L2-V0-attention", "A1-attention-first": "L2(0-1)-V0-attention",
        "A1-mlp-last": "L2-V0-mlp", "A1-mlp-first": "L2(0-1)-V0-mlp",
        "C2-attention-last": "L2-V4-attention", "C2-attention-first": "L2(0-1)-V4(0-3)-attention",
        "C2-mlp-last": "L2-V4-mlp", "C2-mlp-first": "L2(0-1)-V4(0-3)-mlp",
    }  # fmt: skip


def test_without_the_axes_trials_are_as_they_were() -> None:
    plain = expand(STUDY, Axes(), on_miniature())
    said = expand(STUDY, Axes(modules=("all",), layers=(LayerRule("last"),)), on_miniature())
    assert [(one.name, one.trial_id) for one in plain] == [(one.name, one.trial_id) for one in said]


def test_a_rule_of_an_arm_gives_way_to_the_command_line() -> None:
    own = {spec.name: str(spec.placement) for spec in expand(MODULES, Axes(), on_miniature())}
    assert own["attention"] == "L8-V0-attention" and own["all_first4"] == "L4(0-3)-V0" and own["all_last4"] == "L4-V0"
    axes = Axes(only=("attention",), modules=("mlp",), layers=layer_rules("last"))
    assert str(expand(MODULES, axes, on_miniature())[-1].placement) == "L4-V0-mlp"


def test_listed_layers_of_an_arm_stay_unless_a_rule_replaces_them() -> None:
    listed = {"placement": {"language": 2, "vision": 0, "language_indices": (0, 5), "modules": "mlp"}}
    study = replace(STUDY, arms=(Arm("won", language=2, vision=0, settings=listed),))
    assert str(expand(study, Axes(), on_miniature())[-1].placement) == "L2(0+5)-V0-mlp"
    assert str(expand(study, Axes(modules=("all",)), on_miniature())[-1].placement) == "L2(0+5)-V0"
    assert str(expand(study, Axes(layers=layer_rules("last")), on_miniature())[-1].placement) == "L2-V0-mlp"


def test_the_gradient_is_asked_for_each_trial_and_its_layers_are_in_the_identity() -> None:
    asked: list[TrialSpec] = []

    def measure(spec: TrialSpec) -> dict[TowerName, tuple[float, ...]]:
        asked.append(spec)
        return NORMS

    axes = Axes(only=("A1", "A0"), layers=layer_rules("gradient"), quantizations=("none", "nf4"))
    specs = [one for one in expand(STUDY, axes, on_miniature(), measure=measure) if not one.placement.is_baseline]
    assert [one.placement.language_indices for one in specs] == [(1, 4), (1, 4)]
    assert [one.quantization for one in asked] == ["none", "nf4"]
    assert specs[0].identity()["placement"]["language_indices"] == [1, 4]


@pytest.mark.parametrize("axes", [Axes(only=("A0",), layers=(LayerRule("gradient"),)), Axes(("A0",), modules=("mlp",))])
def test_a_baseline_has_no_linears_to_choose_among(axes: Axes) -> None:
    with pytest.raises(UserError, match="--modules and --layers choose among the linears of an adapter, but A0"):
        expand(STUDY, axes, on_miniature())


def test_a_kind_beside_target_modules_is_refused() -> None:
    for study, axes in (
        (STUDY, Axes(("A1",), modules=("mlp",), fixed={"target_modules": ("q_proj",)})),
        (COMMANDS, Axes(("L1_attention",), modules=("mlp",))),
    ):
        with pytest.raises(UserError, match="only one of a kind of modules and target_modules may choose"):
            expand(study, axes, on_miniature())

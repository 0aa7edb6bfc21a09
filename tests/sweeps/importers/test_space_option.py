"""Tests the arms around an imported trial: kinds of modules and listed layers stay where they are not varied."""

from __future__ import annotations

from sweeps.importers.space_option import around, space_in
from sweeps.study import Arm
from trainables.placement import Placement

LISTED = Placement(language=2, language_indices=(0, 5), vision=1, vision_indices=(3,), modules="mlp")


def placed(arm: Arm) -> Placement:
    counts = {"language": arm.language, "vision": arm.vision}
    return Placement.model_validate(arm.settings.get("placement", counts))


def test_a_trial_of_last_layers_makes_plain_arms() -> None:
    [arm] = around({}, Placement(language=2, vision=4))[1]
    assert arm == Arm("L2-V4", language=2, vision=4)


def test_what_a_trial_lists_stays_where_it_is_not_varied() -> None:
    assert [placed(arm) for arm in around({}, LISTED)[1]] == [LISTED]
    arms = around(space_in("language=1,3"), LISTED)[1]
    assert [placed(arm) for arm in arms] == [
        Placement(language=count, vision=1, vision_indices=(3,), modules="mlp") for count in (1, 3)
    ]
    assert [arm.name for arm in arms] == ["L1-V1(3)-mlp", "L3-V1(3)-mlp"]
    [without] = around(space_in("language=0;vision=0"), LISTED)[1]
    assert placed(without) == Placement()

"""Tests placements as values: which layers they name, how they are written, and that old trials keep their ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from small_trials import SpecMaker

from trainables.errors import UserError
from trainables.placement import Placement, ranges
from trainables.spec import parse_spec, read_spec

FIRST = Placement(language=2, language_indices=(0, 1), vision=1)
EXPERIMENTS = Path(__file__).parents[1] / "sweeps" / "experiments"


def test_a_placement_of_last_layers_is_written_as_before_there_were_others() -> None:
    assert Placement(language=2, vision=4).model_dump(mode="json") == {"language": 2, "vision": 4}
    assert Placement().model_dump(mode="json") == {"language": 0, "vision": 0}
    assert FIRST.model_dump(mode="json") == {"language": 2, "vision": 1, "language_indices": [0, 1]}
    assert Placement.model_validate(json.loads(FIRST.model_dump_json())) == FIRST


def test_recorded_trials_keep_their_ids() -> None:
    """The directory of a record ends in the start of its trial's id, as it was when the trial was begun."""
    kept = [path for path in EXPERIMENTS.rglob("spec.json") if path.parent.parent.name == "trials"]
    assert len(kept) > 2
    for path in kept:
        spec = read_spec(json.loads(path.read_text(encoding="utf-8")))
        assert spec.trial_id.startswith(path.parent.name.rsplit("-", 1)[1])


def test_kinds_and_layers_make_another_trial(make_spec: SpecMaker) -> None:
    places = [
        Placement(language=2, vision=2),
        Placement(language=2, vision=2, modules="mlp"),
        Placement(language=2, vision=2, modules="gate-up"),
        Placement(language=2, vision=2, language_indices=(0, 1)),
        Placement(language=2, vision=2, vision_indices=(0, 1)),
    ]
    specs = [make_spec(placement=one) for one in places]
    assert len({spec.trial_id for spec in specs}) == len(places)
    assert len({spec.baseline().trial_id for spec in specs}) == 1
    assert specs[0].identity()["placement"] == {"language": 2, "vision": 2}


@pytest.mark.parametrize(
    ("placement", "text", "words"),
    [
        (Placement(language=2, vision=4), "L2-V4", "the last 2 language layers"),
        (FIRST, "L2(0-1)-V1", "language layers 0-1, counted from 0"),
        (
            Placement(language=1, modules="gate-up"),
            "L1-V0-gate-up",
            "the gate-up linears of the last 1 language layers",
        ),
        (
            Placement(language=4, language_indices=(1, 3, 5, 7)),
            "L4(1-7by2)-V0",
            "language layers 1-7by2, counted from 0",
        ),
    ],
)
def test_how_a_placement_is_written(placement: Placement, text: str, words: str) -> None:
    assert str(placement) == text
    assert placement.describe("language") == words


@pytest.mark.parametrize(
    ("indices", "text"),
    [((0,), "0"), ((0, 1, 2), "0-2"), ((0, 2, 4), "0+2+4"), ((1, 3, 5, 7), "1-7by2"), ((0, 1, 5, 6, 9), "0-1+5-6+9")],
)
def test_ranges(indices: tuple[int, ...], text: str) -> None:
    assert ranges(indices) == text


@pytest.mark.parametrize(
    ("placement", "depth"),
    [
        (Placement(), 0),
        (Placement(language=3), 3),
        (Placement(language=3, language_indices=(0, 1, 2)), 8),
        (Placement(language=2, language_indices=(3, 7)), 5),
    ],
)
def test_the_depth_is_that_of_the_lowest_adapted_layer(placement: Placement, depth: int) -> None:
    assert placement.depth("language", 8) == depth


@pytest.mark.parametrize(
    "values",
    [
        {"language": 2, "language_indices": (0,)},
        {"language": 2, "language_indices": (1, 0)},
        {"language": 2, "language_indices": (1, 1)},
        {"language": 1, "language_indices": (-1,)},
        {"vision_indices": (0,)},
        {"language": 1, "modules": "attentoin"},
        {"modules": "mlp"},
    ],
)
def test_a_placement_that_contradicts_itself_is_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        Placement.model_validate(values)


def test_a_kind_and_names_of_linears_exclude_each_other(make_spec: SpecMaker) -> None:
    values = make_spec(placement=Placement(language=1, modules="attention")).model_dump(mode="json")
    with pytest.raises(UserError, match="only one of a kind of modules and target_modules may choose the linears"):
        parse_spec(values | {"target_modules": ["gate_proj"]})


def test_a_placement_can_be_the_name_of_an_arm(make_spec: SpecMaker) -> None:
    for listed in ((1, 3, 5, 7), (0, 2, 3, 6), (0,)):
        placement = Placement(language=len(listed), language_indices=listed, modules="gate-up")
        assert make_spec(arm=str(placement)).arm == str(placement)
        assert "," not in str(placement)  # which separates arms in --only

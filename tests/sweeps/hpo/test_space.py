"""Tests the search space: points are trials, and an invalid dimension is refused by name before a run."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from searched_sources import SOURCES

import sweeps.search
from sweeps.hpo import space as search_space
from sweeps.hpo.points import corners, is_baseline_point, spec_of
from sweeps.hpo.space import Choice, LogRange, Space, parse_dimension, parse_dimensions
from sweeps.search import SEARCH
from trainables.errors import UserError


def test_the_study_is_values_under_its_files_name() -> None:
    tree = ast.parse(Path(sweeps.search.__file__).read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda))]
    assert SEARCH.study.name == "search"
    for base in (SOURCES, replace(SOURCES, is_miniature=False)):
        assert all(
            spec.steps in (60, 120) for spec in corners(SEARCH.space, SEARCH.study, base) if spec.placement.language
        )


POINT = {
    "language": 2, "vision": 4, "rank": 8, "alpha_ratio": 4.0, "learning_rate": 3e-4, "vision_learning_rate": 1e-3,
    "dropout": 0.05, "quantization": "none", "epochs": 2.0,
}  # fmt: skip


def test_a_point_is_a_trial() -> None:
    spec = spec_of(POINT, SEARCH.study, SOURCES)
    assert (spec.placement.language, spec.placement.vision, spec.rank, spec.alpha) == (2, 4, 8, 32.0)
    assert (spec.learning_rate, spec.vision_learning_rate, spec.dropout) == (3e-4, 1e-3, 0.05)
    assert (spec.quantization, spec.steps) == ("none", 120)
    assert spec.name == f"L2-V4-r8-{spec.trial_id[:4]}"


@pytest.mark.parametrize(("tower", "rate"), [("language", "learning_rate"), ("vision", "vision_learning_rate")])
def test_the_rate_of_a_tower_without_adapter_makes_no_other_trial(tower: str, rate: str) -> None:
    without = {**POINT, tower: 0}
    one, other = (spec_of({**without, rate: value}, SEARCH.study, SOURCES) for value in (1e-4, 2e-4))
    assert one.trial_id == other.trial_id
    one, other = (spec_of({**POINT, rate: value}, SEARCH.study, SOURCES) for value in (1e-4, 2e-4))
    assert one.trial_id != other.trial_id


def test_the_plan_sees_every_edge_and_the_baseline_of_every_quantization() -> None:
    specs = list(corners(SEARCH.space, SEARCH.study, SOURCES))
    bare = [one for one in specs if one.placement.is_baseline]
    assert [one.quantization for one in bare] == ["nf4-double", "none"]
    assert specs[: len(bare)] == bare
    arms = specs[len(bare) :]
    assert {one.rank for one in arms} == {4, 8, 16, 32}
    assert {one.steps for one in arms} == {60, 120}
    assert {one.placement.language for one in arms} == {0, 1, 2, 3, 4}
    assert {5e-5, 1e-3} <= {one.learning_rate for one in arms}
    one_base = SEARCH.space.changed({"quantization": Choice(("none",))})
    assert next(corners(one_base, SEARCH.study, SOURCES)).name == "A0"


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("rank=16,4", ("rank", Choice((4, 16)))),
        ("dropout=0.1", ("dropout", Choice((0.1,)))),
        ("quantization=none,int8", ("quantization", Choice(("int8", "none")))),
        ("learning_rate=1e-4..1e-3", ("learning_rate", LogRange(1e-4, 1e-3))),
    ],
)
def test_a_dimension_is_read(text: str, dimension: tuple[str, Choice | LogRange]) -> None:
    assert parse_dimension(text) == dimension


@pytest.mark.parametrize("text", ["rank", "rank=", "learning_rate=1e-3..1e-4", "learning_rate=0..1", "rank=a..b"])
def test_an_invalid_dimension_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--vary must be"):
        parse_dimension(text)


def test_a_space_is_refused_by_name() -> None:
    with pytest.raises(UserError) as error:
        SEARCH.space.changed({"learning_rte": Choice((1e-4,))})
    assert error.value.hint == "did you mean `learning_rate`?"
    with pytest.raises(UserError, match="`epochs` and `steps` both"):
        Space({**SEARCH.space.dimensions, "steps": Choice((60,))})
    assert "epochs" not in SEARCH.space.changed({"steps": Choice((60,))}).dimensions


@pytest.mark.parametrize("name", ["language", "vision", "rank", "steps", "quantization", "epochs"])
def test_what_is_not_real_is_not_drawn_from_a_range(name: str) -> None:
    with pytest.raises(UserError, match=f"can be drawn from a range, but got `{name}` from 1 to 4") as error:
        SEARCH.space.changed({name: LogRange(1.0, 4.0)})
    assert f"--vary {name}=" in (error.value.hint or "")


@pytest.mark.parametrize("name", search_space.RANGED)
def test_whatever_is_drawn_from_a_range_is_a_trial(name: str) -> None:
    space = SEARCH.space.changed({name: LogRange(0.01, 0.9)})
    assert len(list(corners(space, SEARCH.study, SOURCES))) > 2
    drawn = [point for number in range(8) if not is_baseline_point(point := space.draw(Random(number)))]
    assert len({spec_of(point, SEARCH.study, SOURCES).trial_id for point in drawn}) == len(drawn) > 4


@pytest.mark.parametrize("name", search_space.EXAMPLES)
def test_every_hint_is_one_that_can_be_followed(name: str) -> None:
    text = search_space.example(name).removeprefix("for example --vary ")
    assert list(parse_dimensions([text])) == [name]
    SEARCH.space.changed(parse_dimensions([text]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rank=a,b", "`rank`: input should be a valid integer, unable to parse string as an integer, but got `a`"),
        ("rank=8.5", "`rank`: input should be a valid integer"),
        ("rank=0,8", "`rank`: input should be greater than or equal to 1, but got `0`"),
        ("language=-1", "`language`: input should be greater than or equal to 0, but got `-1`"),
        ("vision=0.5,2", "`vision`: input should be a valid integer"),
        ("epochs=x", "`epochs`: input should be a number greater than 0 and at most 1,000,000, but got `x`"),
        ("epochs=-1", "`epochs`: input should be a number greater than 0 and at most 1,000,000, but got `-1`"),
        ("epochs=0,1", "`epochs`: input should be a number greater than 0 and at most 1,000,000, but got `0`"),
        ("epochs=inf", "`epochs`: input should be a number greater than 0 and at most 1,000,000, but got `inf`"),
        ("epochs=1e308", "`epochs`: input should be a number greater than 0 and at most 1,000,000, but got `1e+308`"),
        (
            "alpha_ratio=nan",
            "`alpha_ratio`: input should be a number greater than 0 and at most",
        ),
        ("dropout=0,1", "`dropout`: input should be less than 1, but got `1`"),
        ("learning_rate=1e-4..inf", "`learning_rate`: input should be a finite number, but got `inf`"),
        ("warmup_ratio=0.5..2", "`warmup_ratio`: input should be less than or equal to 1, but got `2.0`"),
        ("quantization=nf5", "`quantization`: input should be 'none', 'int8'"),
        ("rank=8,8.0", "values of a search's `rank` must differ, but got 8, 8"),
    ],
)
def test_a_value_that_no_trial_could_have_is_refused_by_its_dimension(text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        SEARCH.space.changed(parse_dimensions([text]))
    assert expected in error.value.message
    assert "{" not in error.value.message
    assert f"--vary {text.partition('=')[0]}=" in (error.value.hint or "")


@pytest.mark.parametrize(("language", "refused"), [((0,), True), ((0, 1), False)])
def test_a_space_must_place_an_adapter_somewhere(language: tuple[int, ...], refused: bool) -> None:
    changes = {"language": Choice(language), "vision": Choice((0,))}
    if not refused:
        assert len(list(corners(SEARCH.space.changed(changes), SEARCH.study, SOURCES))) > 2
        return
    with pytest.raises(UserError, match="must place an adapter somewhere") as error:
        SEARCH.space.changed(changes)
    assert "--vary language=" in (error.value.hint or "")

"""Tests trials of points whose space varies kinds of linears, layers and mixes, and what a base can measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from searched_sources import SOURCES

from sweeps.hpo.planning import configuration_of_search
from sweeps.hpo.points import corners, is_baseline_point, spec_of
from sweeps.hpo.space import Choice, Search, Space, measurable, parse_dimensions
from sweeps.search import SEARCH
from trainables.errors import UserError
from trainables.mini.text import BASE_DIRECTORY as TEXT_BASE
from trainables.placement import Placement
from trainables.spec import Source

POINT = {
    "language": 2, "vision": 4, "rank": 8, "alpha_ratio": 4.0, "learning_rate": 3e-4, "vision_learning_rate": 1e-3,
    "dropout": 0.05, "quantization": "none", "epochs": 2.0,
}  # fmt: skip
NARROW = Space({name: SEARCH.space.dimensions[name] for name in ("language", "vision", "rank", "quantization")})


def test_a_point_has_the_kind_of_linears_and_the_layers_of_its_words() -> None:
    spec = spec_of({**POINT, "modules": "mlp", "layers": "first"}, SEARCH.study, SOURCES)
    assert spec.placement == Placement(
        language=2, vision=4, language_indices=(0, 1), vision_indices=(0, 1, 2, 3), modules="mlp"
    )
    assert spec.name.startswith("L2(0-1)-V4(0-3)-mlp-r8-") and spec.arm == "L2(0-1)-V4(0-3)-mlp"
    plain = spec_of(POINT, SEARCH.study, SOURCES)
    assert spec_of({**POINT, "modules": "all", "layers": "last"}, SEARCH.study, SOURCES).trial_id == plain.trial_id


def test_a_search_that_fixes_a_kind_in_its_settings_has_it_in_every_trial() -> None:
    fixed = replace(SEARCH.study, miniature={**SEARCH.study.miniature, "modules": "attention", "layers": "first"})
    assert spec_of(POINT, fixed, SOURCES).placement.modules == "attention"
    assert spec_of(POINT, fixed, SOURCES).placement.language_indices == (0, 1)
    assert spec_of({**POINT, "modules": "mlp"}, fixed, SOURCES).placement.modules == "mlp"
    assert is_baseline_point({**POINT, "language": 0, "vision": 0})


def test_layers_of_the_largest_gradient_are_measured_for_the_trial() -> None:
    measured = []

    def measure(spec):
        measured.append(spec.placement)
        return {"language": (9.0, 1.0, 1.0, 8.0, 1.0, 1.0, 1.0, 1.0), "vision": (1.0,) * 6}

    spec = spec_of({**POINT, "vision": 0, "layers": "gradient"}, SEARCH.study, SOURCES, measure=measure)
    assert spec.placement.language_indices == (0, 3) and measured == [Placement(language=2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modules=atention", "`modules`: must be kinds among attention, mlp"),
        ("layers=frist", "`layers`: must be rules among last, first"),
        ("layers=every", "a search's `layers`: `every` needs a distance from 1 on, but got `every`"),
        ("layers=2", "`layers`: must be rules among"),
    ],
)
def test_an_unknown_word_is_refused_by_its_dimension(text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        SEARCH.space.changed(parse_dimensions([text]))
    assert expected in error.value.message and f"--vary {text.partition('=')[0]}=" in (error.value.hint or "")


def test_a_plan_sees_every_combination_of_words_on_which_memory_depends() -> None:
    space = NARROW.changed(parse_dimensions(["modules=all,attention,mlp", "layers=first,last"]))
    arms = [one for one in corners(space, SEARCH.study, SOURCES) if not one.placement.is_baseline]
    deepest = {
        (one.quantization, one.placement.modules, bool(one.placement.language_indices))
        for one in arms
        if one.placement.language == 4 and one.placement.vision == 6 and one.rank == 32
    }
    assert len(deepest) == 2 * 3 * 2


def test_rows_that_are_replayed_lengthen_the_trial_and_are_known_by_their_content(tmp_path: Path) -> None:
    replay = {"replay": Source(path=tmp_path / "general.jsonl", sha256="9e9e"), "replay_ratio": 0.5}
    study = replace(SEARCH.study, miniature={**SEARCH.study.miniature, **replay})
    spec, plain = spec_of(POINT, study, SOURCES), spec_of(POINT, SEARCH.study, SOURCES)
    assert (spec.steps, spec.replay, spec.replay_ratio) == (2 * plain.steps, replay["replay"], 0.5)
    baseline = next(corners(NARROW, study, SOURCES))
    assert baseline.replay is None
    search = replace(SEARCH, study=study, space=NARROW, objectives=("exact_match",))
    plan = type("Plan", (), {"specs": list(corners(NARROW, study, SOURCES)), "sources": SOURCES})
    launch = type("Launch", (), {"scheduler": None})
    kept = configuration_of_search(search, plan, launch)["fixed"]  # type: ignore[arg-type] what is read of them
    assert kept["replay"] == "9e9e" and kept["replay_ratio"] == 0.5


# ---------------------------------------------------------------- what a base can measure
TEXT = replace(SOURCES, base=Source(path=TEXT_BASE, sha256="7e47"), sees=False)


def test_without_objectives_a_search_has_task_fit_and_the_generality_that_is_measured() -> None:
    assert measurable(SEARCH, SOURCES.reported, True).objectives == ("exact_match", "irrelevant_pass")
    text = measurable(SEARCH, {"exact_match", "text_retention"}, False)
    assert text.objectives == ("exact_match", "text_retention")
    named = replace(SEARCH, objectives=("irrelevant_pass",))
    with pytest.raises(UserError, match="trials on this data report no `irrelevant_pass`") as error:
        measurable(named, {"exact_match", "text_retention"}, False)
    assert "text_retention" in (error.value.hint or "")


@pytest.mark.parametrize("name", ["vision", "vision_learning_rate"])
def test_a_dimension_that_is_named_for_a_tower_that_the_base_lacks_is_refused(name: str) -> None:
    reported = {"exact_match", "text_retention"}
    with pytest.raises(UserError, match=f"--vary names {name} and the base has no vision tower"):
        measurable(replace(SEARCH, named=(name,)), reported, False)
    none = SEARCH.space.changed(parse_dimensions(["vision=0"]))
    assert measurable(replace(SEARCH, space=none, named=("vision",)), reported, False).objectives


def test_a_base_without_a_vision_tower_has_no_dimension_of_it() -> None:
    text = measurable(SEARCH, {"exact_match", "text_retention"}, False)
    assert text.space.dimensions["vision"] == Choice((0,)) and "vision_learning_rate" not in text.space.dimensions
    assert measurable(SEARCH, SOURCES.reported, True).space == SEARCH.space
    specs = list(corners(text.space, text.study, replace(TEXT, is_miniature=False)))
    assert specs and all(one.placement.vision == 0 for one in specs)
    vision = Search(SEARCH.study, SEARCH.space.changed({"language": Choice((0,))}))
    with pytest.raises(UserError, match="must place an adapter somewhere"):
        measurable(vision, {"exact_match", "text_retention"}, False)

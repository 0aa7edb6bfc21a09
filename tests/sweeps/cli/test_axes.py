"""Tests the options that command lines turn into axes alike: kinds of modules, rules for layers, mixes, forecasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.cli import curriculum as curriculum_command
from sweeps.cli import search as search_command
from sweeps.cli import study as study_command
from sweeps.cli import unfreeze as unfreeze_command
from sweeps.cli.axes import mixes, one_mix, placed, placed_once
from sweeps.cli.options import LaunchOptions
from sweeps.cli.search import SearchOptions, job_of
from sweeps.curriculum import STUDY as CURRICULUM
from sweeps.execution.options import Launch
from sweeps.hpo.space import Choice
from sweeps.planning.layers import LayerRule
from sweeps.search import SEARCH
from sweeps.stage4 import STUDY as STAGE4
from sweeps.unfreeze import STUDY as UNFREEZE
from trainables.errors import UserError

ALIKE = {"--probes", "--modules", "--layers", "--split-holdout", "--price", "--memory", "--test", "--ood-test"}


@pytest.mark.parametrize(
    "line",
    [
        study_command.line_of(STAGE4),
        search_command.line_of(SEARCH),
        curriculum_command.line_of(CURRICULUM),
        unfreeze_command.line_of(UNFREEZE),
    ],
    ids=lambda line: line.study.name,
)
def test_every_command_line_that_trains_takes_the_same_axes_and_forecasts(line) -> None:
    assert {one.flag for one in line.parameters()} >= ALIKE


def test_options_name_kinds_rules_and_mixes() -> None:
    shared = LaunchOptions(modules="mlp,attention", layers="first,every-2", mix=["a.jsonl:0.1", "b.jsonl:0.2"])
    assert placed(shared) == (("mlp", "attention"), (LayerRule("first"), LayerRule("every", 2)))
    assert [(one.path, one.ratio) for one in mixes(shared)] == [(Path("a.jsonl"), 0.1), (Path("b.jsonl"), 0.2)]
    assert placed_once(LaunchOptions(modules="mlp")) == (("mlp",), ())


@pytest.mark.parametrize(
    ("given", "option"), [({"modules": "mlp,attention"}, "--modules"), ({"layers": "last,first"}, "--layers")]
)
def test_stages_that_continue_one_adapter_have_one_kind_and_one_rule(given: dict[str, str], option: str) -> None:
    with pytest.raises(UserError, match=f"{option} must name one value") as error:
        placed_once(LaunchOptions(**given))  # type: ignore[arg-type]
    assert option in (error.value.hint or "")


# ---------------------------------------------------------------- a search
def searched(own: SearchOptions | None = None, **shared: object):
    return job_of(SEARCH, own or SearchOptions(), LaunchOptions(**shared), Launch())  # type: ignore[arg-type]


def test_what_a_search_is_given_is_a_dimension_of_its_space_or_fixed() -> None:
    job = searched(modules="mlp,attention", layers="first", probes="shift", mix=["general.jsonl:0.1"])
    dimensions = job.search.space.dimensions
    assert dimensions["modules"] == Choice(("attention", "mlp")) and dimensions["layers"] == Choice(("first",))
    assert [one.suite for one in job.study.settings["probes"]] == ["shift"]
    assert job.mix is not None and (job.mix.path, job.mix.ratio) == (Path("general.jsonl"), 0.1)
    assert searched().mix is None and one_mix(LaunchOptions(mix=["general.jsonl:0"])) is None
    assert job.search.objectives == (), "they are chosen by what the base can measure"


@pytest.mark.parametrize(
    ("own", "shared", "message"),
    [
        (SearchOptions(vary=["modules=mlp"]), {"modules": "attention"}, "--modules and --vary modules= both choose"),
        (SearchOptions(), {"layers": "frist"}, "--layers must be rules among"),
        (SearchOptions(), {"mix": ["a.jsonl:0.1,0.2"]}, "--mix must be one file and one ratio for a search"),
    ],
)
def test_what_a_search_cannot_have_is_refused_by_name(own: SearchOptions, shared: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        searched(own, **shared)
    assert error.value.hint

"""Tests every study of `sweeps/`: plain values that expand to trials which the plan admits on the miniature."""

from __future__ import annotations

import ast
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

import sweeps
from sweeps import smoke
from sweeps.planning.forecast import forecast
from sweeps.planning.preflight import preflight
from sweeps.planning.sources import Sources, gather
from sweeps.planning.space import Axes, expand
from sweeps.study import PREFLIGHT_LIMITS, Study, World
from trainables.data.scan import Scan, scan

PACKAGE = Path(sweeps.__file__).parent
NAMES = sorted(path.stem for path in PACKAGE.glob("*.py") if "\nSTUDY = Study(" in path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[World, Sources]:
    data = tmp_path_factory.mktemp("data")
    return {world: gather(None, None, None, None, data, world) for world in get_args(World)}


@pytest.fixture(scope="module")
def sources(worlds: dict[World, Sources]) -> Sources:
    return worlds["pictures"]


@pytest.fixture(scope="module")
def scans(worlds: dict[World, Sources]) -> dict[World, Scan]:
    return {
        world: scan(one.base.path, one.train.path, one.validation.path, one.ood.path) for world, one in worlds.items()
    }


def study_of(name: str) -> Study:
    study = import_module(f"sweeps.{name}").STUDY
    assert isinstance(study, Study)
    return study


def test_the_studies_are_found() -> None:
    assert {"stage4", "smoke", "quantization"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_values_under_its_files_name(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    assert study_of(name).name == name
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda))]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_admitted_on_its_miniature(
    name: str, worlds: dict[World, Sources], scans: dict[World, Scan]
) -> None:
    study = study_of(name)
    sources, scanned = worlds[study.world], scans[study.world]
    specs = expand(study, Axes(), sources)
    assert specs[0].placement.is_baseline and len({one.name for one in specs}) == len(specs)
    found = preflight(forecast(specs, sources.train_rows), study.guards, scanned).findings
    assert [one for one in found if one.level == "refuse"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_study_makes_trials_of_a_real_base_too(name: str, worlds: dict[World, Sources]) -> None:
    from dataclasses import replace

    study = study_of(name)
    sources = worlds[study.world]
    real = replace(study, miniature=study.settings)  # what a base other than the miniature gets
    assert len(expand(real, Axes(), sources)) == len(expand(study, Axes(), sources))


def test_the_quantizations_are_compared_on_one_arm_each_against_its_own_base(sources: Sources) -> None:
    specs = expand(study_of("quantization"), Axes(), sources)
    arms = [one for one in specs if not one.placement.is_baseline]
    assert [one.quantization for one in arms] == ["none", "int8", "nf4", "nf4-double", "fp4"]
    assert {one.baseline().trial_id for one in arms} == {one.trial_id for one in specs if one.placement.is_baseline}
    paired = [one.model_dump(exclude={"name", "quantization"}) for one in arms]
    assert all(one == paired[0] for one in paired)
    chosen = expand(study_of("quantization"), Axes(quantizations=("int8",)), sources)
    assert [one.quantization for one in chosen] == ["int8", "int8"]


def test_smoke_is_ten_steps_of_both_towers(sources: Sources) -> None:
    baseline, arm = expand(study_of("smoke"), Axes(), sources)
    assert baseline.placement.is_baseline
    assert (arm.steps, arm.placement.language > 0, arm.placement.vision > 0) == (10, True, True)


def test_a_smoke_run_is_admitted_on_any_amount_of_data(sources: Sources, scans: dict[World, Scan]) -> None:
    """Ten steps see 0.4 % of 45,000 rows: any other study is refused for it."""
    many = replace(sources, train_rows=45_000)
    forecasts = forecast(expand(smoke.STUDY, Axes(), many), many.train_rows)
    found, usual = (
        {one.check for one in preflight(forecasts, smoke.STUDY.guards, scans["pictures"], limits).findings}
        for limits in (smoke.STUDY.limits, PREFLIGHT_LIMITS)
    )
    assert usual - found == {"coverage"}

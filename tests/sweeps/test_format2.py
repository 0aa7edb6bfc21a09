"""Tests that experiments begun in format 2 keep their evals, their rows and their trial ids.

`experiments/format2/digests_of_trial_ids.json` was written by the last version of format 2: for each launch the first
16 hex digits of the SHA-256 of its trials' ids by name, as JSON with sorted keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from random import Random

import pytest
from rich.console import Console
from test_format1 import AXES, sources

from sweeps.curriculum import STUDY as CURRICULUM
from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.hpo.points import is_baseline_point, spec_of
from sweeps.job import run_job, show_job
from sweeps.planning.space import expand, settings_of
from sweeps.search import SEARCH
from sweeps.stages.curriculum import CurriculumInput, curriculum
from sweeps.stages.run import StagedJob
from sweeps.study import Study, as_begun
from trainables.mini import stages
from trainables.spec import Format, default_settings, parse_spec

KEPT = Path(__file__).parent / "experiments" / "format2" / "digests_of_trial_ids.json"
DIGESTS: Mapping[str, str] = json.loads(KEPT.read_text())

ADDED_SINCE = {"commands": ("L8", "L16", "L24", "L24_attention")}  # arms of a study that it has today


def digest(ids: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(ids, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("launched", [key for key in DIGESTS if not key.startswith("search")])
def test_a_trial_of_format_2_keeps_its_id(launched: str) -> None:
    name, base, tower, axes = launched.split(", ")
    study = as_begun(import_module(f"sweeps.{name}").STUDY, 2)
    specs = expand(study, AXES[axes], sources(base == "miniature", tower == "sees"), 2)
    ids = {spec.name: spec.trial_id for spec in specs if spec.arm not in ADDED_SINCE.get(name, ())}
    assert digest(ids) == DIGESTS[launched]


@pytest.mark.parametrize("base", ["miniature", "real base"])
def test_a_point_of_a_search_of_format_2_keeps_its_id(base: str) -> None:
    random, study = Random(0), as_begun(SEARCH.study, 2)
    points = [point for point in (SEARCH.space.draw(random) for _ in range(12)) if not is_baseline_point(point)]
    specs = [spec_of(point, study, sources(base == "miniature", True), 2) for point in points]
    assert digest({spec.name: spec.trial_id for spec in specs}) == DIGESTS[f"search, {base}, sees"]


# ---------------------------------------------------------------- how often there is an eval
@pytest.mark.parametrize(
    ("name", "before", "now"),
    [("stage4", 30, 24), ("narrow", 30, 24), ("quantization", 30, 24), ("commands", 60, 48), ("unfreeze", 30, 18),
     ("curriculum", 20, 16), ("smoke", 3, 3)],
)  # fmt: skip
def test_a_study_on_the_miniature_evaluates_more_often_from_format_3_on(name: str, before: int, now: int) -> None:
    study: Study = import_module(f"sweeps.{name}").STUDY
    every: dict[Format, int] = {
        one: settings_of(as_begun(study, one), None, {}, sources(True, True))["eval_every_steps"] for one in (1, 2, 3)
    }
    assert every == {1: before, 2: before, 3: now}


def test_what_a_launch_fixes_holds_in_every_format() -> None:
    for one in (2, 3):
        found = settings_of(as_begun(CURRICULUM, one), None, {"eval_every_steps": 7}, sources(True, True))
        assert found["eval_every_steps"] == 7


@pytest.mark.parametrize(("spec_format", "every"), [(1, 30), (2, 30), (3, 24)])
def test_the_default_of_a_trial_depends_on_its_format(spec_format: Format, every: int) -> None:
    assert default_settings(spec_format)["eval_every_steps"] == every
    files = {key: {"path": key, "sha256": key} for key in ("base", "train", "validation", "ood")}
    spec = parse_spec({"name": "A1", "format": spec_format, **files})
    assert spec.eval_every_steps == every
    assert parse_spec(spec.model_dump()) == spec


# ---------------------------------------------------------------- a curriculum
@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Begin a curriculum in format 2 on the stages of then, which had fewer rows outside the task."""
    monkeypatch.setattr("sweeps.stages.run._run_in_order", _begin_only)
    launch = Launch(storage=tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'm.db'}", console=Console(quiet=True))
    with monkeypatch.context() as earlier:
        earlier.setattr(stages, "VERSION", 1)
        earlier.setattr("sweeps.execution.experiment.FORMAT", 2)
        for files in stages.write(tmp_path / "data-stages", 0):
            rows = files.ood.read_text("utf-8").splitlines(keepends=True)
            files.ood.write_text("".join(rows[::2]), "utf-8")
            files.ood_test.unlink()
        run_job(job(launch))
    return launch


def job(launch: Launch) -> StagedJob:
    def made(below: Path):
        return curriculum(CURRICULUM, CurriculumInput(), launch, below.with_name("data-stages"))

    return StagedJob(CURRICULUM, launch, made)


def _begin_only(planned, experiment: Experiment, launch: Launch) -> list:
    specs = [planned.staged.baseline(number) for number in range(len(planned.plans))]
    return experiment.begin([*specs, planned.staged.first()])


@pytest.mark.slow
def test_a_curriculum_of_format_2_is_continued_by_the_same_command(begun: Launch) -> None:
    experiment = Experiment(begun.directory(CURRICULUM))
    kept = (experiment.directory / "study.json").read_bytes()
    names, rows = {record.name for record in experiment.records()}, sorted(begun.storage.glob("data*/*"))
    show_job(job(begun))
    assert {record.name for record in run_job(job(begun))} == names
    assert (experiment.directory / "study.json").read_bytes() == kept and b'"format": 2' in kept
    assert sorted(begun.storage.glob("data*/*")) == rows
    for record in experiment.records():
        assert (record.spec().format, record.spec().eval_every_steps) == (2, 20)

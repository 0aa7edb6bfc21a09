"""Experiments of format 1, written before specs had a format: they are read, keep their ids, and are resumed.

`experiments/format1/begun` was written by an earlier version: L1 is finished, L2_attention was killed after step 4, L4
has not begun. `uninterrupted.json` holds what that version measured when nothing interrupted it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from random import Random

import pytest

from sweeps.commands import STUDY as COMMANDS
from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.hpo.space import is_bare, spec_of
from sweeps.launch import resume
from sweeps.planning.sources import Sources
from sweeps.planning.space import Axes, expand
from sweeps.search import SEARCH
from trainables.mini.text import BASE_DIRECTORY
from trainables.record import Record
from trainables.spec import Source, TrialSpec, read_spec

KEPT = Path(__file__).parent / "experiments" / "format1"
IDS: Mapping[str, Mapping[str, str]] = json.loads((KEPT / "trial_ids.json").read_text())
AXES = {
    "as declared": Axes(),
    "varied": Axes(ranks=(4, 8), learning_rates=(1e-4, 3e-4), quantizations=("none", "nf4"), seeds=2),
    "fixed": Axes(fixed={"epochs": 2.0, "schedule": "stable"}),
}
WRITTEN_AT = "/home/user/footprint"


def sources(is_miniature: bool, sees: bool) -> Sources:
    base, train, validation, ood = (Source(path=Path("/somewhere") / one, sha256=one * 64) for one in "bcde")
    return Sources(base, train, validation, ood, 600, is_miniature, sees=sees)


def as_format_1(spec: TrialSpec) -> TrialSpec:
    return read_spec({**spec.model_dump(mode="json"), "format": 1})


@pytest.fixture
def begun(tmp_path: Path) -> Experiment:
    """Give the kept experiment, its paths those of this machine."""
    shutil.copytree(KEPT, tmp_path / "runs")
    for path in (tmp_path / "runs" / "begun" / "trials").glob("*/spec.json"):
        text = path.read_text().replace(f"{WRITTEN_AT}/runs", str(tmp_path / "runs"))
        path.write_text(text.replace(f"{WRITTEN_AT}/trainables/mini/text/base", str(BASE_DIRECTORY)))
    return Experiment(tmp_path / "runs" / "begun")


@pytest.mark.parametrize("launched", [key for key in IDS if not key.startswith("search")])
def test_a_trial_of_format_1_keeps_its_id(launched: str) -> None:
    name, base, tower, axes = launched.split(", ")
    study = import_module(f"sweeps.{name}").STUDY
    specs = expand(study, AXES[axes], sources(base == "miniature", tower == "sees"))
    assert {spec.name: as_format_1(spec).trial_id for spec in specs} == IDS[launched]


@pytest.mark.parametrize("base", ["miniature", "real base"])
def test_a_point_of_a_search_of_format_1_keeps_its_id(base: str) -> None:
    random = Random(0)
    points = [point for point in (SEARCH.space.draw(random) for _ in range(12)) if not is_bare(point)]
    specs = [spec_of(point, SEARCH.study, sources(base == "miniature", True)) for point in points]
    assert {as_format_1(spec).trial_id for spec in specs} == set(IDS[f"search, {base}, sees"].values())


def test_records_of_format_1_are_read(begun: Experiment) -> None:
    records = {record.spec().name: record for record in begun.records()}
    assert {name: str(record.verdict()) for name, record in records.items()} == {
        "A0": "completed", "L1": "completed", "L2_attention": "None", "L4": "None",
    }  # fmt: skip
    for record in records.values():
        assert record.spec().format == 1
        assert record.name == f"{record.spec().name}-{record.spec().trial_id}"
    assert records["L2_attention"].checkpoint_steps() == [4]
    best = records["L1"].best()
    assert best is not None and best.step == 6


def test_an_experiment_of_format_1_is_resumed_to_what_it_would_have_measured(begun: Experiment) -> None:
    uninterrupted = json.loads((KEPT / "uninterrupted.json").read_text())
    database = begun.directory.parent / "mlflow.db"
    launch = Launch(
        storage=begun.directory.parent, experiment="begun", tracking_uri=f"sqlite:///{database}", cohort=1
    )  # fmt: skip
    records = resume(COMMANDS, launch)
    assert {str(record.verdict()) for record in records} == {"completed"}
    assert {record.name for record in records} == uninterrupted.keys()
    for record in records:
        measured = _evals(record)
        assert measured.keys() == uninterrupted[record.name].keys()
        for step, metrics in uninterrupted[record.name].items():
            # another processor rounds otherwise; another initialization or data order is off by more than 0.01 nats
            assert measured[step] == pytest.approx(metrics, abs=2e-3), (record.name, step)


def _evals(record: Record) -> dict[str, dict[str, float]]:
    return {str(one.step): dict(one.metrics) for one in record.evals()}

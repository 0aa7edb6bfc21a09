"""Tests that experiments of format 1 can be read and resumed, and that their trial ids are unchanged.

`experiments/format1/begun` was written by an earlier version: L1 is finished, L2_attention was killed after step 4, L4
has not begun. `uninterrupted.json` holds what that version measured when nothing interrupted it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from sweeps.commands import STUDY as COMMANDS
from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.hpo.points import fixed_settings, is_baseline_point, spec_of
from sweeps.launch import resume, run
from sweeps.planning.active_guards import active_guards
from sweeps.planning.forecast import forecast
from sweeps.planning.plan import Plan
from sweeps.planning.preflight import Preflight
from sweeps.planning.sources import Sources
from sweeps.planning.space import Axes, expand
from sweeps.search import SEARCH
from sweeps.study import Study, as_begun
from trainables.errors import UserError
from trainables.io.files import write_json
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


def sources_of(spec: TrialSpec) -> Sources:
    return Sources(spec.base, spec.train, spec.validation, spec.ood, 600, is_miniature=True, sees=False)


def planned(study: Study, specs: list[TrialSpec], of: Sources, *_: object) -> Plan:
    return Plan(of, forecast(specs, of.train_rows), Preflight({}, ()), active_guards(study, of.reported, of.sees))


@pytest.fixture
def begun(tmp_path: Path) -> Experiment:
    """Return the kept experiment with the paths of this machine."""
    shutil.copytree(KEPT, tmp_path / "runs")
    for path in (tmp_path / "runs" / "begun" / "trials").glob("*/spec.json"):
        text = path.read_text().replace(f"{WRITTEN_AT}/runs", str(tmp_path / "runs"))
        path.write_text(text.replace(f"{WRITTEN_AT}/trainables/mini/text/base", str(BASE_DIRECTORY)))
    return Experiment(tmp_path / "runs" / "begun")


@pytest.mark.parametrize("launched", [key for key in IDS if not key.startswith("search")])
def test_a_trial_of_format_1_keeps_its_id(launched: str) -> None:
    name, base, tower, axes = launched.split(", ")
    study = import_module(f"sweeps.{name}").STUDY
    specs = expand(as_begun(study, 1), AXES[axes], sources(base == "miniature", tower == "sees"), 1)
    assert IDS[launched].items() <= {spec.name: spec.trial_id for spec in specs}.items()  # a study may have more arms


@pytest.mark.parametrize("base", ["miniature", "real base"])
def test_a_point_of_a_search_of_format_1_keeps_its_id(base: str) -> None:
    random = Random(0)
    points = [point for point in (SEARCH.space.draw(random) for _ in range(12)) if not is_baseline_point(point)]
    study = as_begun(SEARCH.study, 1)
    specs = [spec_of(point, study, sources(base == "miniature", True), 1) for point in points]
    assert {spec.trial_id for spec in specs} == set(IDS[f"search, {base}, sees"].values())


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


def test_the_arm_of_a_record_of_format_1_is_in_its_name(begun: Experiment) -> None:
    arms = {record.spec().name: record.spec().arm for record in begun.records()}
    assert arms == {"A0": "A0", "L1": "L1", "L2_attention": "L2_attention", "L4": "L4"}
    written = begun.records()[0].spec().model_dump(mode="json", exclude={"format", "arm"})
    for name, arm in {"C2-r8-lr0.0001-nf4-s0": "C2", "C2-r8-restart": "C2-restart", "A0-S2": "A0"}.items():
        assert read_spec({**written, "name": name}).arm == arm
    assert read_spec({**written, "name": "L1-all-s0", "arm": "L1-all"}).arm == "L1-all"


# ---------------------------------------------------------------- formats of experiments
@pytest.mark.parametrize("current", [1, 2])
def test_an_experiment_has_the_format_it_was_begun_with(
    begun: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: int
) -> None:
    monkeypatch.setattr("sweeps.execution.experiment.FORMAT", current)
    assert (begun.format, Experiment(tmp_path / "new").format) == (1, current)
    new = Experiment(tmp_path / "new")
    new.directory.mkdir()
    new.configure({"format": 2, "steps": 10})
    assert new.format == 2
    with pytest.raises(UserError, match="begun with another configuration: format: 2 -> 1"):
        new.configure({"format": 1, "steps": 10})


def test_the_same_command_finishes_an_experiment_of_format_1_in_format_1(
    begun: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.execution.experiment.FORMAT", 2)
    monkeypatch.setattr("sweeps.launch.run_records", lambda *_: None)
    kept = (begun.directory / "study.json").read_bytes()
    given = begun.records()[0].spec()
    launch = Launch(
        storage=begun.directory.parent, experiment="begun", tracking_uri="sqlite:///none.db",
        console=Console(quiet=True),
    )  # fmt: skip
    monkeypatch.setattr("sweeps.launch.gather_for", lambda *_: sources_of(given))
    monkeypatch.setattr("sweeps.launch.plan_specs", planned)
    monkeypatch.setattr("sweeps.launch.show_plan", lambda *_: None)
    names = {record.name for record in begun.records()}
    axes = Axes(ranks=(2,), fixed={"steps": 6, "eval_every_steps": 2, "batch_rows": 8})
    records = run(COMMANDS, replace(axes, only=("L1", "L2_attention", "L4")), launch)
    assert {record.name for record in records} == names and {record.spec().format for record in records} == {1}
    assert (begun.directory / "study.json").read_bytes() == kept
    other = run(COMMANDS, replace(axes, only=("L1",)), replace(launch, experiment="other"))
    assert {record.spec().format for record in other} == {2}
    assert json.loads((other[0].directory.parents[1] / "study.json").read_text())["format"] == 2
    assert not {record.name for record in other} & names


def test_an_experiment_of_a_later_version_is_not_touched(begun: Experiment) -> None:
    write_json(begun.directory / "study.json", {"format": 99})
    with pytest.raises(UserError, match=r"study\.json: `format` must be one of 1, 2, 3, but it is 99"):
        assert begun.format


@pytest.mark.parametrize("base", ["miniature", "real base"])
def test_a_search_of_format_1_is_continued_by_the_same_search(tmp_path: Path, base: str) -> None:
    """Format 1 stored only the settings that a search's study stated; the others had their defaults."""
    stated = {"rank": 16, "alpha": 32.0, "dropout": 0.1, "learning_rate": 1e-4, "vision_learning_rate": 3e-4,
              "weight_decay": 0.1, "warmup_ratio": 0.2, "batch_rows": 1, "accumulation_steps": 16,
              "eval_every_steps": 50}  # fmt: skip
    miniature = as_begun(SEARCH.study, 1).miniature if base == "miniature" else {}
    dimensions = SEARCH.space.as_json()
    kept = {key: value for key, value in {**stated, **miniature}.items() if key not in dimensions}
    spaces = {f"space.{name}": values for name, values in dimensions.items()}
    write_json(tmp_path / "search" / "study.json", {"fixed": kept, **spaces})
    now = fixed_settings(as_begun(SEARCH.study, 1), sources(base == "miniature", True))
    fixed = {key: value for key, value in now.items() if key not in dimensions}
    Experiment(tmp_path / "search").configure({"format": 1, "fixed": fixed, **spaces})
    with pytest.raises(UserError, match="fixed"):
        Experiment(tmp_path / "search").configure({"format": 1, "fixed": {**fixed, "weight_decay": 0.3}, **spaces})


@pytest.mark.slow
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
            # the same processor gives the same numbers, another rounds otherwise; the initialization of format 2 is
            # off by 0.002 to 0.008
            assert measured[step] == pytest.approx(metrics, abs=5e-4), (record.name, step)


def _evals(record: Record) -> dict[str, dict[str, float]]:
    return {str(one.step): dict(one.metrics) for one in record.evals()}

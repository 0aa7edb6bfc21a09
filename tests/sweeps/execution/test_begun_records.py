"""Tests what is checked before a launch adds to an experiment: damage, changed sources, lost baselines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.execution.begun_records import begin_lost_baselines, check_begun
from sweeps.execution.experiment import Experiment, configuration_of
from sweeps.execution.options import Launch
from sweeps.launch import ResumedStudy, resumed
from sweeps.planning.sources import Begun, Sources, gather
from sweeps.planning.space import Axes, expand
from sweeps.stage4 import STUDY
from trainables.errors import UserError
from trainables.io.files import FileDamaged, write_json
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.record import Measurement, Record
from trainables.source_check import SourceChanged
from trainables.spec import TrialSpec
from trainables.verdict import Verdict

AXES = Axes(only=("A1",), fixed={"steps": 30, "eval_every_steps": 15})
EVAL = {"eval_loss": 1.0, "exact_match": 0.1, "irrelevant_pass": 1.0, "hallucination": 0.0}
NAMES = ("train", "validation", "ood")
CALLS_DATE = "{{ strftime_now('%d %b %Y') }}"


@dataclass(frozen=True)
class Begin:
    """An experiment on copies of the miniature and its rows: a measured baseline, and an arm that has not ended."""

    experiment: Experiment
    sources: Sources
    baseline: Record
    arm: Record

    def resumed(self) -> ResumedStudy:
        directory = self.experiment.directory
        console = Console(quiet=True)
        return resumed(STUDY, Launch(storage=directory.parent, experiment=directory.name, console=console))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the miniature, and a few of its rows with their pictures."""
    directory = tmp_path_factory.mktemp("original")
    files = datasets.write(directory / "all", 0)
    shutil.copytree(BASE_DIRECTORY, directory / "base")
    for name in NAMES:
        lines = getattr(files, name).read_text(encoding="utf-8").splitlines()
        kinds = {json.loads(line).get("kind"): line for line in lines}  # one of each kind
        kept = [*lines[:3], *(line for line in kinds.values() if line not in lines[:3])]
        (directory / "rows").mkdir(exist_ok=True)
        (directory / "rows" / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
        for picture in (one for line in kept for one in json.loads(line).get("images", [])):
            target = directory / "rows" / picture
            target.parent.mkdir(exist_ok=True)
            shutil.copy(directory / "all" / picture, target)
    shutil.rmtree(directory / "all")
    return directory


@pytest.fixture
def begun(original: Path, tmp_path: Path) -> Begin:
    own = Path(shutil.copytree(original, tmp_path / "own"))
    found = [own / "rows" / f"{name}.jsonl" for name in NAMES]
    sources = gather(str(own / "base"), *found, tmp_path / "data")
    specs = expand(STUDY, AXES, sources)
    experiment = Experiment(tmp_path / "runs" / "e")
    experiment.configure(configuration_of(STUDY, specs))
    experiment.keep_base_files(sources.base)
    baseline, arm = experiment.begin(specs)
    baseline.append(Measurement("train", 0, {"train_seconds": 0.0}))
    baseline.append(Measurement("eval", 0, EVAL))
    baseline.close(Verdict(kind="completed", step=0))
    return Begin(experiment, sources, baseline, arm)


def test_an_experiment_resumes_with_the_width_that_its_plan_found(
    begun: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Launch] = []
    monkeypatch.setattr("sweeps.launch.run_records", lambda *given: ran.append(given[3]))
    monkeypatch.setattr("sweeps.launch.kept_width", lambda experiment: 3 if experiment.directory.name == "e" else None)
    job = begun.resumed()
    job.run(job.plan(tmp_path / "data"))
    assert [(one.width, one.most_trials) for one in ran] == [(3, 3)]


def test_an_unchanged_experiment_can_be_resumed(begun: Begin, tmp_path: Path) -> None:
    planned = begun.resumed().plan(tmp_path / "data")
    assert [one.name for one in planned.records] == [begun.baseline.name, begun.arm.name]


@pytest.mark.parametrize("name", NAMES)
def test_changed_rows_are_refused_by_resume_and_relaunch(name: str, begun: Begin, tmp_path: Path) -> None:
    path = begun.sources.train.path.with_name(f"{name}.jsonl")
    path.write_text(path.read_text() + "\n")
    for check in (lambda: begun.resumed().plan(tmp_path / "data"),
                  lambda: check_begun(begun.experiment, STUDY.constraint, ())):  # fmt: skip
        with pytest.raises(SourceChanged, match=rf"{name}\.jsonl: the .* rows must be unchanged") as error:
            check()
        assert "pass --experiment e-2" in (error.value.hint or "") and error.value.exit_code == 2


@pytest.mark.parametrize("name", ["chat_template.jinja", "preprocessor_config.json", "model.safetensors"])
def test_the_changed_file_of_a_base_is_named(name: str, begun: Begin, tmp_path: Path) -> None:
    path = begun.sources.base.path / name
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    with pytest.raises(SourceChanged, match=f"the base must be unchanged .*; changed in the base: {name}"):
        begun.resumed().plan(tmp_path / "data")


def test_sources_that_were_just_hashed_are_not_read_again(begun: Begin) -> None:
    begun.sources.train.path.write_text("")
    check_begun(begun.experiment, STUDY.constraint, begun.sources.files)


@pytest.mark.parametrize("file", ["spec.json", "verdict.json", "metrics.jsonl"])
@pytest.mark.parametrize("missing", [True, False])
def test_damage_of_an_ended_trial_is_named(file: str, missing: bool, begun: Begin, tmp_path: Path) -> None:
    path = begun.baseline.directory / file
    path.unlink() if missing else path.write_text("[]")
    with pytest.raises(FileDamaged) as error:
        resumed_plan(begun, tmp_path)
    assert str(path) in error.value.message and error.value.exit_code == 4
    assert "delete the trial's directory and launch again" in (error.value.hint or "")


def resumed_plan(begun: Begin, tmp_path: Path) -> None:
    begun.resumed().plan(tmp_path / "data")


@pytest.mark.parametrize("shape", ["", "[]", "{}}", '{"format": 9}', '{"template_date": "yesterday"}', None])
def test_a_damaged_configuration_is_named(shape: str | None, begun: Begin) -> None:
    path = begun.experiment.directory / "study.json"
    path.unlink() if shape is None else path.write_text(shape)
    with pytest.raises(UserError, match=r"study\.json"):
        assert begun.experiment.begun


def test_all_damaged_records_are_named_at_once(begun: Begin, tmp_path: Path) -> None:
    for record in (begun.baseline, begun.arm):
        (record.directory / "spec.json").write_text("{")
    with pytest.raises(FileDamaged) as error:
        resumed_plan(begun, tmp_path)
    assert begun.baseline.name in error.value.message and begun.arm.name in error.value.message


def test_a_lost_best_adapter_is_found_without_a_manifest(begun: Begin, tmp_path: Path) -> None:
    """Records of an earlier version have no manifest, but their evals show that one was kept."""
    for step in (15, 30):
        begun.arm.append(Measurement("train", step, {"step_loss": 1.0}))
        begun.arm.append(Measurement("eval", step, EVAL))
    begun.arm.close(Verdict(kind="completed", step=30))
    (begun.arm.directory / "manifest.json").unlink()
    with pytest.raises(FileDamaged, match="best is missing, although the trial has an eval that meets"):
        resumed_plan(begun, tmp_path)


def test_a_lost_baseline_is_begun_again(begun: Begin, tmp_path: Path) -> None:
    name = begun.baseline.name
    shutil.rmtree(begun.baseline.directory)
    resumed_plan(begun, tmp_path)
    records = begin_lost_baselines(begun.experiment)
    assert [one.name for one in records] == [name, begun.arm.name]
    assert records[0].verdict() is None


def test_a_baseline_that_is_there_is_not_begun_again(begun: Begin) -> None:
    assert [one.name for one in begin_lost_baselines(begun.experiment)] == [begun.baseline.name, begun.arm.name]
    assert begun.baseline.verdict() is not None


# ---------------------------------------------------------------- the date of a chat template
@pytest.fixture
def with_date(begun: Begin) -> Callable[[Begun | None], Sources]:
    """Plan on a base whose template shows a date, for a new experiment or for one that was begun."""
    template = begun.sources.base.path / "chat_template.jinja"
    template.write_text(CALLS_DATE)
    files = (begun.sources.train, begun.sources.validation, begun.sources.ood)
    paths = [one.path for one in files]

    def plan(kept: Begun | None) -> Sources:
        return gather(str(begun.sources.base.path), *paths, begun.experiment.directory.parent / "data", begun=kept)

    return plan


def test_the_date_is_that_of_the_first_launch(with_date: Callable[[Begun | None], Sources], tmp_path: Path) -> None:
    first = with_date(None)
    assert first.template_date == date.today()
    old = date(2024, 2, 9)
    earlier = with_date(Begun(template_date=old))
    specs = expand(STUDY, AXES, earlier)
    assert {spec.template_date for spec in specs} == {old}
    assert {one.trial_id for one in specs} & {one.trial_id for one in expand(STUDY, AXES, first)} == set()
    experiment = Experiment(tmp_path / "dated")
    experiment.configure(configuration_of(STUDY, specs))
    assert experiment.begun == Begun(template_date=old)


def test_without_a_date_ids_have_none(begun: Begin, with_date: Callable[[Begun | None], Sources]) -> None:
    assert begun.sources.template_date is None
    assert all("template_date" not in spec.identity() for spec in expand(STUDY, AXES, begun.sources))
    assert with_date(Begun(format=1)).template_date is None


def test_another_shape_of_the_kept_files_only_names_no_file(begun: Begin, tmp_path: Path) -> None:
    write_json(begun.experiment.directory / "base.json", [])
    (begun.sources.base.path / "chat_template.jinja").write_text("x")
    with pytest.raises(SourceChanged) as error:
        resumed_plan(begun, tmp_path)
    assert "changed in the base" not in error.value.message


def test_a_trial_whose_directory_is_gone_is_named_and_a_new_launch_begins_it_again(
    begun: Begin, tmp_path: Path
) -> None:
    name = begun.arm.name
    shutil.rmtree(begun.arm.directory)
    with pytest.raises(FileDamaged) as caught:
        begun.resumed().plan(tmp_path / "data")
    assert name in caught.value.message and "without --resume" in str(caught.value.hint)
    check_begun(begun.experiment, STUDY.constraint, begun.sources.files)
    begun.experiment.begin(expand(STUDY, AXES, begun.sources))
    begun.resumed().plan(tmp_path / "data")


def test_a_launch_that_was_killed_while_it_began_its_trials_forgets_none(
    begun: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    experiment = Experiment(tmp_path / "killed")
    first = begun.arm.spec()
    specs = [begun.baseline.spec(), first, first.model_copy(update={"name": "A2", "seed": 1})]
    experiment.configure(configuration_of(STUDY, specs))
    create = Record.create

    def killed_at_the_last(record: Record, spec: TrialSpec) -> None:
        if spec.name == "A2":
            raise Killed
        create(record, spec)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Record, "create", killed_at_the_last)
        experiment.begin(specs)
    assert len(experiment.records()) == 2
    with pytest.raises(FileDamaged, match=r"must hold every trial that was begun, but A2-\w+ is gone"):
        check_begun(experiment, STUDY.constraint)
    experiment.begin(specs)
    check_begun(experiment, STUDY.constraint)

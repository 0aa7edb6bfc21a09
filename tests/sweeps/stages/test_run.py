"""Tests a staged study before anything runs: its plan, its refusals and its files."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from saved_adapters import left_by, saved
from scanned_rows import scan_of

from sweeps.curriculum import STUDY
from sweeps.execution.holdout_file import holdout_of, holdout_of_stages
from sweeps.execution.options import Launch
from sweeps.job import run_job, show_job
from sweeps.planning.forecast import Forecast
from sweeps.planning.holdout import Holdout
from sweeps.planning.sources import Sources
from sweeps.planning.space import Axes, expand
from sweeps.stages.curriculum import CurriculumInput, curriculum
from sweeps.stages.run import StagedJob, forecast_of_stages, plan_stages, show_stages, unchanged
from sweeps.stages.staged_study import (
    Stage,
    StagedStudy,
    as_json,
    begun_stages,
    check_continuation,
    configuration_of_stages,
    continued,
)
from sweeps.stages.unfreezing import unfreezing
from sweeps.unfreeze import STUDY as UNFREEZE
from trainables.errors import UserError
from trainables.guards import Fall
from trainables.io.files import FileDamaged, write_json
from trainables.model.families import LinearShape
from trainables.model.placement import ResolvedPlacement
from trainables.record import Record
from trainables.source_check import SourceChanged
from trainables.spec import Placement
from trainables.verdict import Verdict

SHORT = {"steps": 30, "eval_every_steps": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def staged(data: Path) -> StagedStudy:
    return curriculum(STUDY, CurriculumInput(), Launch(), data / "stages")


@pytest.fixture(scope="module")
def unfreeze(data: Path) -> StagedStudy:
    return unfreezing(UNFREEZE, Axes(), Launch(), data / "mini")


def launch_in(directory: Path, **changes: Any) -> Launch:
    return Launch(storage=directory / "runs", tracking_uri=f"sqlite:///{directory / 'mlflow.db'}",
                  console=Console(quiet=True), **changes)  # fmt: skip


def run_staged(staged: StagedStudy, directory: Path) -> None:
    run_job(StagedJob(STUDY, launch_in(directory), lambda _: staged))


# ---------------------------------------------------------------- the holdout
def sources_of(staged: StagedStudy) -> list[Sources]:
    return [stage.sources for stage in staged.stages]


@pytest.mark.slow
def test_the_rows_beside_the_last_stage_are_the_holdout_and_are_kept(
    staged: StagedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.stages.run._run_in_order", lambda *_: [])
    run_staged(staged, tmp_path)
    kept = holdout_of(tmp_path / "runs" / "curriculum")
    assert kept is not None and kept == holdout_of_stages(sources_of(staged), Launch())
    beside = staged.stages[-1].sources.ood.path.parent
    assert (kept.test.path, kept.ood_test.path) == (beside / "test.jsonl", beside / "ood-test.jsonl")


@pytest.mark.slow
def test_stages_that_began_with_a_holdout_of_their_own_go_on_without_naming_it(
    staged: StagedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.stages.run._run_in_order", lambda *_: [])
    beside = staged.stages[-1].sources.ood.path.parent
    for name in ("test.jsonl", "ood-test.jsonl"):
        fewer = (beside / name).read_text("utf-8").splitlines(keepends=True)[1:]
        (tmp_path / name).write_text("".join(fewer), "utf-8")
    shutil.copytree(beside / "images", tmp_path / "images")
    own = launch_in(tmp_path, test=tmp_path / "test.jsonl", ood_test=tmp_path / "ood-test.jsonl")
    run_job(StagedJob(STUDY, own, lambda _: staged))
    kept = holdout_of(tmp_path / "runs" / "curriculum")
    assert kept is not None and kept.test.path == tmp_path / "test.jsonl"
    run_staged(staged, tmp_path)  # the miniature's rows beside the last stage are not asked instead
    show_job(StagedJob(STUDY, launch_in(tmp_path), lambda _: staged))
    assert holdout_of(tmp_path / "runs" / "curriculum") == kept
    other = launch_in(tmp_path, test=beside / "test.jsonl", ood_test=beside / "ood-test.jsonl")
    for launched in (run_job, show_job):
        with pytest.raises(UserError, match="was begun with another --test"):
            launched(StagedJob(STUDY, other, lambda _: staged))


@pytest.mark.slow
def test_a_launch_of_stages_that_names_no_holdout_has_the_kept_one(staged: StagedStudy) -> None:
    beside = holdout_of_stages(sources_of(staged), Launch())
    assert beside is not None
    kept = Holdout(beside.ood_test, beside.test)
    assert holdout_of_stages(sources_of(staged), Launch(), kept) == kept
    named = Launch(test=beside.test.path, ood_test=beside.ood_test.path)
    assert holdout_of_stages(sources_of(staged), named, kept) == beside


def test_a_holdout_that_any_stage_reads_is_refused(staged: StagedStudy) -> None:
    last, first = staged.stages[-1].sources.ood.path.parent, staged.stages[0].sources.train.path
    launch = Launch(test=first, ood_test=last / "ood-test.jsonl")
    with pytest.raises(UserError, match="test rows must not be in train"):
        holdout_of_stages(sources_of(staged), launch)
    assert holdout_of_stages(sources_of(staged)[1:], launch) is not None  # only stage 1 trains on these rows


def test_rows_of_ones_own_have_no_holdout_beside_them(unfreeze: StagedStudy, tmp_path: Path) -> None:
    made = sources_of(unfreeze)
    assert holdout_of_stages(made, Launch()) is not None
    shutil.copytree(made[0].ood.path.parent, tmp_path / "own")
    (tmp_path / "own" / "manifest.json").unlink()
    ood = made[0].ood.model_copy(update={"path": tmp_path / "own" / "ood.jsonl"})
    assert holdout_of_stages([replace(one, ood=ood) for one in made], Launch()) is None


# ---------------------------------------------------------------- the curriculum
def test_rates_fall_to_seven_and_five_tenths(staged: StagedStudy) -> None:
    for rates in (
        [arm.settings["learning_rate"] for arm in STUDY.arms],
        [one.spec.learning_rate for one in staged.stages],
    ):
        assert [rate / rates[0] for rate in rates] == pytest.approx([1.0, 0.7, 0.5])
    assert STUDY.arms[0].settings["learning_rate"] == 5.0e-5
    assert (STUDY.settings["rank"], STUDY.settings["alpha"]) == (4, 8.0)
    assert STUDY.settings["target_modules"] == ("q_proj", "k_proj", "v_proj", "o_proj")


def test_every_stage_reads_its_own_rows_and_is_measured_on_all_before(staged: StagedStudy) -> None:
    specs = [stage.spec for stage in staged.stages]
    assert len({spec.train.sha256 for spec in specs}) == len({spec.validation.sha256 for spec in specs}) == 3
    assert [[one.sha256 for one in spec.earlier] for spec in specs] == [
        [one.validation.sha256 for one in specs[:number]] for number in range(3)
    ]
    assert len({staged.baseline(number).trial_id for number in range(3)}) == 3
    assert [staged.baseline(number).name for number in range(3)] == ["A0-S1", "A0-S2", "A0-S3"]


def test_a_stage_is_guarded_against_forgetting_what_came_before(staged: StagedStudy) -> None:
    assert staged.study_of(0).guards == STUDY.guards
    added = staged.study_of(2).guards[len(STUDY.guards) :]
    assert added == (Fall("stage1_accuracy", 0.10, 2), Fall("stage2_accuracy", 0.10, 2))


def test_a_later_stage_continues_the_last_checkpoint(staged: StagedStudy, tmp_path: Path) -> None:
    record = Record(tmp_path / "S1")
    record.create(staged.stages[0].spec)
    directory = left_by(record, staged.stages[0].spec)
    spec = staged.from_parent(1, record)
    assert spec.init_from and spec.init_from.path == directory
    assert (spec.continuation, spec.optimizer, spec.earlier) == ("same", "fresh", staged.stages[1].spec.earlier)
    with pytest.raises(UserError, match=r"a resumed optimizer needs optimizer\.safetensors"):
        replace(staged, optimizer="resumed").from_parent(1, record)


@pytest.mark.parametrize("harm", ["flipped", "without manifest", "gone"])
def test_a_parent_that_is_not_as_it_was_written_is_refused(harm: str, staged: StagedStudy, tmp_path: Path) -> None:
    record = Record(tmp_path / "S1")
    record.create(staged.stages[0].spec)
    directory = left_by(record, staged.stages[0].spec)
    assert staged.from_parent(1, record).init_from
    if harm == "flipped":
        weights = directory / "adapter_model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "gone":
        shutil.rmtree(directory)
    else:
        (directory / "manifest.json").unlink()
    with pytest.raises(FileDamaged, match=r"the adapter that stage S2 starts from must match its manifest") as error:
        staged.from_parent(1, record)
    assert error.value.message.startswith(f"{directory}: ")
    assert str(record.directory) in (error.value.hint or "")
    assert error.value.exit_code == 4


def test_a_first_stage_continues_what_it_is_given_as_a_later_one_does(staged: StagedStudy, tmp_path: Path) -> None:
    spec = staged.stages[0].spec
    given = saved(tmp_path / "given", spec)
    first = replace(staged, start=given).first()
    assert first.init_from and (first.continuation, first.optimizer) == ("same", "fresh")
    with pytest.raises(UserError, match=r"a resumed optimizer needs optimizer\.safetensors"):
        replace(staged, start=given, optimizer="resumed").first()
    save_file({"moments": np.zeros(1, np.float32)}, str(given / "optimizer.safetensors"))
    resumed = replace(staged, start=given, optimizer="resumed")
    assert resumed.first().optimizer == "resumed"
    own = configuration_of_stages(resumed)["start"]
    save_file({"moments": np.ones(1, np.float32)}, str(given / "optimizer.safetensors"))
    assert configuration_of_stages(resumed)["start"] != own, "other moments make other stages"


@pytest.mark.slow
def test_a_curriculum_is_planned_whole(staged: StagedStudy, tmp_path: Path) -> None:
    planned = plan_stages(staged)
    assert [plan.forecasts[-1].spec.name for plan in planned.plans] == ["S1", "S2", "S3"]
    assert planned.preflight.refusals == ()
    console = Console(file=io.StringIO(), width=80)
    show_stages(planned, replace(launch_in(tmp_path), console=console))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for line in ("5 evals a trial, one every 16 steps: ", "Guards (tested, error at most 5% a run)", "To be picked, "):
        assert shown.count(line) == 1, f"all stages have it in common: {line}"
    assert "Holdout: test.jsonl and ood-test.jsonl measure the picks" in shown
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def sound_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused here follows from the stages; scanning their rows takes ten seconds each."""
    monkeypatch.setattr("sweeps.planning.plan.scan_once", lambda *_: scan_of())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"rank": 8},
            "stage S2 must continue S1, but\nS1/adapter_config.json: `r` must equal this trial's value",
        ),
        ({"placement": Placement(language=3, vision=4)}, "its modules must equal L3-V4, but 7 modules"),
    ],
)
def test_stages_that_cannot_continue_each_other_are_refused(
    changes: dict[str, Any], expected: str, staged: StagedStudy, tmp_path: Path, sound_rows: None
) -> None:
    other = replace(staged.stages[1], spec=staged.stages[1].spec.model_copy(update=changes))
    broken = replace(staged, stages=(staged.stages[0], other))
    with pytest.raises(UserError) as error:
        run_staged(broken, tmp_path)
    assert expected in error.value.message
    assert not (tmp_path / "runs" / "curriculum").exists(), "nothing was started"


def test_a_stage_that_is_refused_refuses_all(staged: StagedStudy, tmp_path: Path, sound_rows: None) -> None:
    short = replace(staged.stages[2], spec=staged.stages[2].spec.model_copy(update={"steps": 2, "eval_every_steps": 1}))
    with pytest.raises(UserError, match=r"preflight checks? failed; nothing was run"):
        run_staged(replace(staged, stages=(*staged.stages[:2], short)), tmp_path)
    assert not (tmp_path / "runs" / "curriculum").exists()


def test_a_stage_after_one_on_experts_is_refused_before_anything_trains(staged: StagedStudy) -> None:
    experts = ResolvedPlacement({"language": (LinearShape("model.layers.1.mlp.experts.down_proj", 32, 64, 4),),
                                 "vision": ()})  # fmt: skip
    first, second = (Forecast(stage.spec, experts, 1.0, 2) for stage in staged.stages[:2])
    with pytest.raises(UserError, match="stage S2 must continue S1, whose adapter is on experts") as refused:
        check_continuation(first, second, "same")
    assert "merge_and_unload" in refused.value.hint


# ---------------------------------------------------------------- what is written down
def test_stages_are_read_back_as_they_were_written(staged: StagedStudy, tmp_path: Path) -> None:
    launch = launch_in(tmp_path)
    own = replace(staged, optimizer="resumed", start=tmp_path)
    path = launch.directory(STUDY) / "course.json"
    write_json(path, as_json(own))
    write_json(path.with_name("study.json"), configuration_of_stages(staged))
    assert json.loads(path.read_text())["optimizer"] == "resumed"
    assert begun_stages(STUDY, launch) == own
    with pytest.raises(UserError, match=r"holds no course\.json"):
        begun_stages(STUDY, replace(launch, experiment="other"))


def test_other_stages_are_another_configuration(staged: StagedStudy, unfreeze: StagedStudy) -> None:
    own = configuration_of_stages(staged)
    assert own != configuration_of_stages(replace(staged, optimizer="resumed"))
    assert own != configuration_of_stages(replace(staged, stages=staged.stages[:2]))
    assert own == configuration_of_stages(staged)


# ---------------------------------------------------------------- unfreezing
def test_unfreezing_grows_the_vision_tower_on_one_baseline(unfreeze: StagedStudy, tmp_path: Path) -> None:
    assert [str(stage.spec.placement) for stage in unfreeze.stages] == ["L2-V2", "L2-V4", "L2-V6"]
    assert {unfreeze.baseline(number).trial_id for number in range(3)} == {unfreeze.baseline(0).trial_id}
    assert unfreeze.baseline(0).name == "A0"
    plan_stages(unfreeze)
    backwards = replace(unfreeze, stages=unfreeze.stages[::-1])
    with pytest.raises(UserError, match=r"stage C2 must continue C3, but\n.*must be part of L2-V4"):
        plan_stages(backwards)


def test_unfreezing_builds_on_the_best_that_is_admissible(unfreeze: StagedStudy, tmp_path: Path) -> None:
    record = Record(tmp_path / "C1")
    record.create(unfreeze.stages[0].spec)
    record.close(Verdict(kind="completed", step=60))
    assert not unfreeze.can_continue(record), "no eval of it was admissible"
    with record.saving("best") as directory:
        saved(directory, unfreeze.stages[0].spec)
        write_json(directory / "provenance.json", {"step": 30, "metrics": {}})
    assert unfreeze.can_continue(record)
    spec = unfreeze.from_parent(1, record)
    assert spec.init_from and spec.init_from.path == record.directory / "best"
    assert spec.continuation == "extended"


def test_a_first_stage_may_extend_an_adapter(unfreeze: StagedStudy, tmp_path: Path) -> None:
    smaller = saved(tmp_path / "A1", unfreeze.stages[0].spec.model_copy(update={"placement": Placement(language=2)}))
    started = replace(unfreeze, start=smaller)
    assert started.first().init_from and started.first().continuation == "extended"
    plan_stages(started)
    larger = saved(tmp_path / "D1", unfreeze.stages[0].spec.model_copy(update={"placement": Placement(language=4)}))
    with pytest.raises(UserError, match="its modules must be part of L2-V2"):
        plan_stages(replace(unfreeze, start=larger))


def test_continued_is_a_spec_that_was_checked(staged: StagedStudy, tmp_path: Path) -> None:
    spec = staged.stages[1].spec
    assert continued(spec, saved(tmp_path / "one", spec), "same", "fresh").trial_id != spec.trial_id
    with pytest.raises(UserError, match="an adapter to continue must be a directory"):
        continued(spec, tmp_path / "none", "same", "fresh")


def test_a_stage_is_what_the_study_expands_to(staged: StagedStudy) -> None:
    stage: Stage = staged.stages[0]
    alone = expand(replace(STUDY, arms=STUDY.arms[:1]), Axes(), stage.sources)[-1]
    assert stage.spec == alone


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_stages_whose_rows_changed_since_they_began_are_not_resumed(
    stage: int, staged: StagedStudy, tmp_path: Path
) -> None:
    rows = Path(shutil.copy(staged.stages[stage].spec.validation.path, tmp_path / "rows.jsonl"))
    pictures = staged.stages[stage].spec.validation.path.parent / "images"
    (tmp_path / "images").symlink_to(pictures)
    source = staged.stages[stage].spec.validation.model_copy(update={"path": rows})
    stages = list(staged.stages)
    stages[stage] = replace(stages[stage], spec=stages[stage].spec.model_copy(update={"validation": source}))
    begun = replace(staged, stages=tuple(stages))
    assert unchanged(begun) is begun
    rows.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    with pytest.raises(SourceChanged, match=r"rows\.jsonl"):
        unchanged(begun)


def test_a_forecast_has_the_id_that_a_stage_has_once_its_parent_is_known(staged: StagedStudy, tmp_path: Path) -> None:
    planned, ended = plan_stages(staged), []
    for number, stage in enumerate(staged.stages):
        ended.append(Record(tmp_path / stage.spec.name))
        ended[-1].create(stage.spec.model_copy(update={"learning_rate": 1e-5 * (number + 1)}))
    baseline = Record(tmp_path / "A0")
    baseline.create(staged.baseline(0))
    found = forecast_of_stages(planned, [baseline, *ended])
    assert [one.trial_id for one in found] == [one.spec().trial_id for one in ended]
    assert [one.trial for one in found] == [stage.spec.name for stage in staged.stages]

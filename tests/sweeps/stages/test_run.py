"""Stages as a course: what is planned, refused and written down before a step is paid for, and told at the end."""

from __future__ import annotations

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

from sweeps.curriculum import STUDY
from sweeps.execution.options import Launch
from sweeps.planning.space import Axes, expand
from sweeps.stages.curriculum import Wish, curriculum
from sweeps.stages.run import admit_all, plan_course, run_course
from sweeps.stages.sequence import Course, Leg, configuration_of_course, continued, course_as_json, course_in
from sweeps.stages.unfreezing import unfreezing
from sweeps.unfreeze import STUDY as UNFREEZE
from trainables.errors import UserError
from trainables.guards import Fall
from trainables.io.files import FileDamaged, write_json
from trainables.record import Record, Verdict
from trainables.spec import Placement

SHORT = {"steps": 30, "eval_every_steps": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def course(data: Path) -> Course:
    return curriculum(STUDY, Wish(), Launch(), data / "stages")


@pytest.fixture(scope="module")
def unfreeze(data: Path) -> Course:
    return unfreezing(UNFREEZE, Axes(), Launch(), data / "mini")


def launch_in(directory: Path, **changes: Any) -> Launch:
    return Launch(storage=directory / "runs", tracking_uri=f"sqlite:///{directory / 'mlflow.db'}",
                  console=Console(quiet=True), **changes)  # fmt: skip


# ---------------------------------------------------------------- the curriculum
def test_the_briefs_rates_fall_to_seven_and_five_tenths(course: Course) -> None:
    for rates in (
        [arm.settings["learning_rate"] for arm in STUDY.arms],
        [one.spec.learning_rate for one in course.legs],
    ):
        assert [rate / rates[0] for rate in rates] == pytest.approx([1.0, 0.7, 0.5])
    assert STUDY.arms[0].settings["learning_rate"] == 5.0e-5
    assert (STUDY.settings["rank"], STUDY.settings["alpha"]) == (4, 8.0)
    assert STUDY.settings["target_modules"] == ("q_proj", "k_proj", "v_proj", "o_proj")


def test_every_stage_reads_its_own_rows_and_is_measured_on_all_before(course: Course) -> None:
    specs = [leg.spec for leg in course.legs]
    assert len({spec.train.sha256 for spec in specs}) == len({spec.validation.sha256 for spec in specs}) == 3
    assert [[one.sha256 for one in spec.earlier] for spec in specs] == [
        [one.validation.sha256 for one in specs[:number]] for number in range(3)
    ]
    assert len({course.baseline(number).trial_id for number in range(3)}) == 3
    assert [course.baseline(number).name for number in range(3)] == ["A0-S1", "A0-S2", "A0-S3"]


def test_a_stage_is_guarded_against_forgetting_what_came_before(course: Course) -> None:
    assert course.study_of(0).guards == STUDY.guards
    added = course.study_of(2).guards[len(STUDY.guards) :]
    assert added == (Fall("stage1_accuracy", 0.10, 2), Fall("stage2_accuracy", 0.10, 2))


def test_a_later_stage_goes_on_from_the_last_checkpoint(course: Course, tmp_path: Path) -> None:
    record = Record(tmp_path / "S1")
    record.create(course.legs[0].spec)
    directory = left_by(record, course.legs[0].spec)
    spec = course.from_parent(1, record)
    assert spec.init_from and spec.init_from.path == directory
    assert (spec.continuation, spec.optimizer, spec.earlier) == ("same", "fresh", course.legs[1].spec.earlier)
    with pytest.raises(UserError, match=r"a resumed optimizer needs optimizer\.safetensors"):
        replace(course, optimizer="resumed").from_parent(1, record)


@pytest.mark.parametrize("harm", ["flipped", "without manifest", "gone"])
def test_a_parent_that_is_not_as_it_was_written_is_refused(harm: str, course: Course, tmp_path: Path) -> None:
    record = Record(tmp_path / "S1")
    record.create(course.legs[0].spec)
    directory = left_by(record, course.legs[0].spec)
    assert course.from_parent(1, record).init_from
    if harm == "flipped":
        weights = directory / "adapter_model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "gone":
        shutil.rmtree(directory)
    else:
        (directory / "manifest.json").unlink()
    with pytest.raises(FileDamaged, match=r"what stage S2 goes on from must be as it was written") as error:
        course.from_parent(1, record)
    assert error.value.message.startswith(f"{directory}: ")
    assert str(record.directory) in (error.value.hint or "")
    assert error.value.exit_code == 4


def test_a_first_stage_continues_what_it_is_given_as_a_later_one_does(course: Course, tmp_path: Path) -> None:
    spec = course.legs[0].spec
    given = saved(tmp_path / "given", spec)
    first = replace(course, start=given).first()
    assert first.init_from and (first.continuation, first.optimizer) == ("same", "fresh")
    with pytest.raises(UserError, match=r"a resumed optimizer needs optimizer\.safetensors"):
        replace(course, start=given, optimizer="resumed").first()
    save_file({"moments": np.zeros(1, np.float32)}, str(given / "optimizer.safetensors"))
    resumed = replace(course, start=given, optimizer="resumed")
    assert resumed.first().optimizer == "resumed"
    own = configuration_of_course(resumed)["start"]
    save_file({"moments": np.ones(1, np.float32)}, str(given / "optimizer.safetensors"))
    assert configuration_of_course(resumed)["start"] != own, "other moments make another course"


def test_a_curriculum_is_planned_whole(course: Course, tmp_path: Path) -> None:
    plans = plan_course(course, launch_in(tmp_path))
    assert [plan.forecasts[-1].spec.name for plan in plans] == ["S1", "S2", "S3"]
    admit_all(plans, launch_in(tmp_path))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"rank": 8},
            "stage S2 must go on from S1, but\nS1/adapter_config.json: `r` must equal this trial's, but it is",
        ),
        ({"placement": Placement(language=3, vision=4)}, "its modules must equal L3-V4, but 7 modules"),
    ],
)
def test_stages_that_cannot_go_on_from_each_other_are_refused(
    changes: dict[str, Any], says: str, course: Course, tmp_path: Path
) -> None:
    other = replace(course.legs[1], spec=course.legs[1].spec.model_copy(update=changes))
    broken = replace(course, legs=(course.legs[0], other))
    with pytest.raises(UserError) as error:
        run_course(broken, launch_in(tmp_path))
    assert says in error.value.message
    assert not (tmp_path / "runs" / "curriculum").exists(), "nothing was started"


def test_a_stage_that_is_refused_refuses_all(course: Course, tmp_path: Path) -> None:
    short = replace(course.legs[2], spec=course.legs[2].spec.model_copy(update={"steps": 2, "eval_every_steps": 1}))
    with pytest.raises(UserError, match="the plan must pass every check"):
        run_course(replace(course, legs=(*course.legs[:2], short)), launch_in(tmp_path))
    assert not (tmp_path / "runs" / "curriculum").exists()


# ---------------------------------------------------------------- what is written down
def test_a_course_is_read_back_as_it_was_written(course: Course, tmp_path: Path) -> None:
    launch = launch_in(tmp_path)
    own = replace(course, optimizer="resumed", start=tmp_path)
    path = launch.directory(STUDY) / "course.json"
    write_json(path, course_as_json(own))
    assert json.loads(path.read_text())["optimizer"] == "resumed"
    assert course_in(STUDY, launch) == own
    with pytest.raises(UserError, match=r"holds no course\.json"):
        course_in(STUDY, replace(launch, experiment="other"))


def test_another_course_is_another_configuration(course: Course, unfreeze: Course) -> None:
    own = configuration_of_course(course)
    assert own != configuration_of_course(replace(course, optimizer="resumed"))
    assert own != configuration_of_course(replace(course, legs=course.legs[:2]))
    assert own == configuration_of_course(course)


# ---------------------------------------------------------------- unfreezing
def test_unfreezing_grows_the_vision_tower_on_one_baseline(unfreeze: Course, tmp_path: Path) -> None:
    assert [str(leg.spec.placement) for leg in unfreeze.legs] == ["L2-V2", "L2-V4", "L2-V6"]
    assert {unfreeze.baseline(number).trial_id for number in range(3)} == {unfreeze.baseline(0).trial_id}
    assert unfreeze.baseline(0).name == "A0"
    plan_course(unfreeze, launch_in(tmp_path))
    backwards = replace(unfreeze, legs=unfreeze.legs[::-1])
    with pytest.raises(UserError, match=r"stage C2 must go on from C3, but\n.*must lie within L2-V4"):
        plan_course(backwards, launch_in(tmp_path))


def test_unfreezing_builds_on_the_best_that_is_admissible(unfreeze: Course, tmp_path: Path) -> None:
    record = Record(tmp_path / "C1")
    record.create(unfreeze.legs[0].spec)
    record.close(Verdict(kind="completed", step=60))
    assert not unfreeze.can_go_on(record), "no eval of it was admissible"
    with record.saving("best") as directory:
        saved(directory, unfreeze.legs[0].spec)
        write_json(directory / "provenance.json", {"step": 30, "metrics": {}})
    assert unfreeze.can_go_on(record)
    spec = unfreeze.from_parent(1, record)
    assert spec.init_from and spec.init_from.path == record.directory / "best"
    assert spec.continuation == "extended"


def test_a_first_stage_may_extend_an_adapter(unfreeze: Course, tmp_path: Path) -> None:
    smaller = saved(tmp_path / "A1", unfreeze.legs[0].spec.model_copy(update={"placement": Placement(language=2)}))
    started = replace(unfreeze, start=smaller)
    assert started.first().init_from and started.first().continuation == "extended"
    plan_course(started, launch_in(tmp_path))
    larger = saved(tmp_path / "D1", unfreeze.legs[0].spec.model_copy(update={"placement": Placement(language=4)}))
    with pytest.raises(UserError, match="its modules must lie within L2-V2"):
        plan_course(replace(unfreeze, start=larger), launch_in(tmp_path))


def test_continued_is_a_spec_that_was_checked(course: Course, tmp_path: Path) -> None:
    spec = course.legs[1].spec
    assert continued(spec, saved(tmp_path / "one", spec), "same", "fresh").trial_id != spec.trial_id
    with pytest.raises(UserError, match="an adapter to continue must be a directory"):
        continued(spec, tmp_path / "none", "same", "fresh")


def test_a_leg_is_what_the_study_expands_to(course: Course) -> None:
    leg: Leg = course.legs[0]
    alone = expand(replace(STUDY, arms=STUDY.arms[:1]), Axes(), leg.sources)[-1]
    assert leg.spec == alone

"""Tests the command lines of staged studies: options reach every stage, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.cli import curriculum as curriculum_command
from sweeps.cli import unfreeze as unfreeze_command
from sweeps.curriculum import STUDY as CURRICULUM
from sweeps.execution.options import Launch
from sweeps.planning.layers import LayerRule
from sweeps.planning.space import Axes
from sweeps.stages.curriculum import CurriculumInput, curriculum
from sweeps.stages.run import forecast_of_stages, plan_stages
from sweeps.stages.staged_study import StagedStudy
from sweeps.stages.unfreezing import unfreezing
from sweeps.unfreeze import STUDY as UNFREEZE
from trainables.errors import UserError
from trainables.mini import stages as curriculum_rows
from trainables.mini.text import BASE_DIRECTORY as TEXT_BASE
from trainables.mini.text import datasets
from trainables.record import Record
from trainables.spec import ProbeRequest, TrialSpec

Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Call the command line of a staged below a fresh directory; Ray must not start."""

    def no_ray(*_: object) -> None:
        raise AssertionError("Ray was started")

    def called(name: str, *arguments: str) -> int:
        monkeypatch.setattr("sys.argv", [f"sweeps.{name}", *arguments])
        main, study = {
            "curriculum": (curriculum_command.main, CURRICULUM),
            "unfreeze": (unfreeze_command.main, UNFREEZE),
        }[name]
        with pytest.raises(SystemExit) as exit_info:
            main(study)
        return int(exit_info.value.code or 0)

    monkeypatch.setattr("sweeps.execution.ray_session.ray_session", no_ray)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return called


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("curriculum", ("--resume", "--dry-run"), "cannot be combined with --dry-run"),
        ("curriculum", ("nowhere.yaml", "--resume-optimizer", "--resume"), "combined with FILES, --resume-optimizer"),
        ("unfreeze", ("--resume", "--dry-run"), "cannot be combined with --dry-run"),
        ("unfreeze", ("--resume", "--rank", "8"), "cannot be combined with --rank"),
        ("unfreeze", ("--sync", "--rank", "8"), "only an experiment with records can be copied to MLflow"),
        ("curriculum", ("--tracking-uri", "foo://bar"), "foo"),
        ("unfreeze", ("--tracking-uri", "foo://bar"), "foo"),
        ("unfreeze", ("--set", "schedul=stable"), "`schedul`"),
        ("unfreeze", ("--quant", "nf3"), "`quantization`"),
    ],
)
def test_what_would_be_lost_or_fail_is_refused_before_anything_is_written(
    call: Call, capsys: pytest.CaptureFixture[str], name: str, arguments: tuple[str, ...], expected: str
) -> None:
    assert call(name, *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not list(Path().rglob("study.json")) and not list(Path().rglob("trials"))


def test_every_stage_of_an_unfreezing_has_what_was_asked_for(tmp_path: Path) -> None:
    axes = Axes(ranks=(8,), learning_rates=(4e-4,), quantizations=("none",), fixed={"schedule": "stable"})
    staged = unfreezing(UNFREEZE, axes, Launch(), tmp_path / "data")
    ratio = UNFREEZE.miniature["vision_learning_rate"] / UNFREEZE.miniature["learning_rate"]
    assert [stage.spec.name for stage in staged.stages] == ["C1", "C2", "C3"]
    for stage in staged.stages:
        spec = stage.spec
        assert (spec.rank, spec.alpha, spec.quantization, spec.schedule) == (8, 16.0, "none", "stable")
        assert spec.learning_rate == 4e-4
        assert spec.vision_learning_rate == pytest.approx(4e-4 * ratio)
    assert isinstance(staged, StagedStudy) and staged.start is None


# ---------------------------------------------------------------- kinds of linears and layers
def record_of(directory: Path, spec: TrialSpec) -> Record:
    record = Record(directory)
    record.create(spec)
    return record


def test_stages_grow_by_the_kind_and_the_layers_that_are_asked_for(tmp_path: Path) -> None:
    axes = Axes(modules=("mlp",), layers=(LayerRule("first"),), fixed={"probes": (ProbeRequest(suite="shift"),)})
    staged = unfreezing(UNFREEZE, axes, Launch(), tmp_path / "data")
    places = [stage.spec.placement for stage in staged.stages]
    assert [(one.language_indices, one.vision_indices) for one in places] == [
        ((0, 1), tuple(range(count))) for count in (2, 4, 6)
    ]
    assert {one.modules for one in places} == {"mlp"}
    planned = plan_stages(staged)  # which checks that each stage extends the one before
    assert all("shift" in plan.reported for plan in planned.plans)
    # a later stage has its id when the stage before has ended, which wrote the adapter that it starts from
    ended = [stage.spec.model_copy(update={"seed": 7}) for stage in staged.stages[:2]]
    records = [record_of(tmp_path / spec.name, spec) for spec in (planned.plans[0].specs[0], *ended)]
    found = forecast_of_stages(planned, records)
    assert [(one.trial, one.trial_id) for one in found] == [(spec.name, spec.trial_id) for spec in ended]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("unfreeze", ("--layers", "every-2"), "must let each stage of unfreeze add layers"),
        ("unfreeze", ("--layers", "all"), "but all chooses the same for all stages"),
        ("unfreeze", ("--layers", "first-2"), "but first-2 chooses the same"),
        ("unfreeze", ("--modules", "attention,mlp"), "--modules must name one value"),
        ("curriculum", ("--layers", "gradient"), "but `gradient` chooses by the rows of each stage"),
        ("curriculum", ("--layers", "last,first"), "--layers must name one value"),
        ("curriculum", ("--split-holdout",), "the miniature has a holdout of its own"),
        ("unfreeze", ("--split-holdout",), "the miniature has a holdout of its own"),
        ("curriculum", ("--probes", "shfit"), "did you mean `shift`?"),
    ],
)
def test_what_stages_cannot_have_is_refused_by_name_with_a_hint(
    call: Call, capsys: pytest.CaptureFixture[str], name: str, arguments: tuple[str, ...], expected: str
) -> None:
    assert call(name, *arguments, "--dry-run") == 2
    told = capsys.readouterr().err
    assert expected in told and "hint: " in told


def test_stages_of_files_have_one_kind_and_one_rule_unless_they_name_linears(tmp_path: Path) -> None:
    files = curriculum_rows.write(tmp_path / "data", 0)
    row = "train: {}\nvalidation: {}\nood: {}\nlora: {{{}}}\n"
    stages = [tmp_path / f"{name}.yaml" for name in ("one", "two")]
    for path, one, lora in zip(stages, files, ("r: 4, language_layers: 4", "r: 4, language_layers: 4"), strict=False):
        path.write_text(row.format(one.train, one.validation, one.ood, lora))
    stages[1].write_text(stages[1].read_text() + "prev_checkpoint: one\n")
    given = CurriculumInput(files=tuple(stages), modules=("attention",), layers=(LayerRule("first"),))
    staged = curriculum(CURRICULUM, given, Launch(), tmp_path / "mini")
    assert {str(stage.spec.placement) for stage in staged.stages} == {"L4(0-3)-V4(0-3)-attention"}
    stages[1].write_text(stages[1].read_text().replace("r: 4,", "r: 4, target_modules: [q_proj],"))
    with pytest.raises(UserError, match=r"two\.yaml:4: `lora\.target_modules` and --modules both choose linears"):
        curriculum(CURRICULUM, given, Launch(), tmp_path / "mini")


def test_a_base_without_vision_tower_has_nothing_to_unfreeze(tmp_path: Path) -> None:
    files = datasets.write(tmp_path / "data", 0)
    launch = Launch(base=str(TEXT_BASE), train=files.train, validation=files.validation, ood=files.ood)
    with pytest.raises(UserError, match="must have a vision tower to unfreeze"):
        unfreezing(UNFREEZE, Axes(), launch, tmp_path)

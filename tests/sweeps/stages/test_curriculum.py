"""Tests a curriculum from stage files: what is adapted, and what is refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from saved_adapters import saved

from sweeps.curriculum import STUDY
from sweeps.execution.options import Launch
from sweeps.stages.curriculum import CurriculumInput, curriculum
from sweeps.stages.staged_study import StagedStudy
from trainables.errors import UserError
from trainables.spec import Placement, TrialSpec


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedStudy:
    return curriculum(STUDY, CurriculumInput(), Launch(), tmp_path_factory.mktemp("data") / "stages")


def rows_of(spec: TrialSpec, **other: Path) -> str:
    """Write the keys of a stage file that name the rows of a spec."""
    paths = {key: other.get(key, getattr(spec, key).path) for key in ("train", "validation", "ood")}
    return "".join(f"{key}: {path}\n" for key, path in paths.items())


@pytest.mark.slow
def test_a_first_stage_is_not_given_a_part_of_its_modules(staged: StagedStudy, tmp_path: Path) -> None:
    part = saved(tmp_path / "part", staged.stages[0].spec.model_copy(update={"placement": Placement(language=2)}))
    with pytest.raises(UserError, match="its modules must equal L2-V4, but 16 modules"):
        curriculum(STUDY, CurriculumInput(start=part), Launch(), staged.stages[0].spec.train.path.parents[1])
    yaml = tmp_path / "one.yaml"
    yaml.write_text(rows_of(staged.stages[0].spec) + f"prev_checkpoint: {part}\nlora: {{r: 8}}\n")
    with pytest.raises(UserError) as error:
        curriculum(STUDY, CurriculumInput(files=(yaml,)), Launch(), tmp_path / "data")
    assert error.value.message.startswith(
        f"{yaml}:4: `prev_checkpoint`: {part / 'adapter_config.json'}: `r` must equal"
    )
    assert "its modules must equal L2-V4" in error.value.message


def test_rows_that_measure_an_earlier_stage_may_not_be_trained_on(
    staged: StagedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (stage.spec for stage in staged.stages[:2])
    monkeypatch.setenv("FOOTPRINT_DATA", str(first.validation.path.parent))
    leak = second.train.path.parent / "leak.jsonl"
    lines = first.validation.path.read_text(encoding="utf-8").splitlines()[:1]
    lines = [line.replace("images/", f"../{first.validation.path.parent.name}/images/") for line in lines]
    leak.write_text("\n".join([*lines, *second.train.path.read_text(encoding="utf-8").splitlines()]) + "\n")
    stage = "train: {}\nvalidation: {}\nood: {}\n"
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(stage.format(first.train.path, first.validation.path, first.ood.path))
    two.write_text(stage.format(leak, second.validation.path, second.ood.path) + "prev_checkpoint: one\n")
    with pytest.raises(UserError, match=r"stage1/validation\.jsonl: validation rows must not be in train, but 1 of"):
        curriculum(STUDY, CurriculumInput(files=(one, two)), Launch(), tmp_path / "data")


@pytest.mark.parametrize("number", [0, 2])
def test_no_stage_trains_on_rows_that_measure_another(
    number: int, staged: StagedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [stage.spec for stage in staged.stages]
    measured = specs[1].validation.path
    monkeypatch.setenv("FOOTPRINT_DATA", str(measured.parent))
    images = f"../{measured.parent.name}/images/"
    lines = [line.replace("images/", images) for line in measured.read_text(encoding="utf-8").splitlines()[:2]]
    leak = specs[number].train.path.with_name(f"leak-{number}.jsonl")
    leak.write_text("\n".join([*lines, *specs[number].train.path.read_text(encoding="utf-8").splitlines()]) + "\n")
    files = []
    for at, spec in enumerate(specs):
        files.append(tmp_path / f"stage{at}.yaml")
        own = rows_of(spec, train=leak) if at == number else rows_of(spec)
        files[-1].write_text(own + (f"prev_checkpoint: stage{at - 1}\n" if at else ""))
    with pytest.raises(UserError) as error:
        curriculum(STUDY, CurriculumInput(files=files), Launch(), tmp_path / "data")
    output = f"{files[number]}:1: `train`: {measured}: validation rows must not be in train, but 2 of them are"
    assert error.value.message.startswith(output)


def test_stages_may_be_measured_by_the_same_rows_and_train_on_earlier_ones(staged: StagedStudy, tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(rows_of(staged.stages[0].spec))
    two.write_text(rows_of(staged.stages[0].spec) + "prev_checkpoint: one\n")
    assert len(curriculum(STUDY, CurriculumInput(files=(one, two)), Launch(), tmp_path / "data").stages) == 2


@pytest.mark.parametrize(
    ("lines", "line", "key", "expected"),
    [
        (("base_model: /nope",), 5, "base_model", "a base must be a directory with config.json"),
        (("lora:", "  r: 4", "  language_layers: 99"), 7, "lora.language_layers", "must be at most 8"),
        (("lora:", "  r: 4", "  vision_blocks: 99"), 7, "lora.vision_blocks", "must be at most"),
        (("lora: {language_layers: 0, vision_blocks: 0}",), 5, "lora", "must adapt a layer"),
        (("lora:", "  r: 16", "  target_modules: [foo]"), 7, "lora.target_modules", "but got `foo`"),
        (("lora: {r: 8}",), 4, "prev_checkpoint", "stage two must continue one, but"),
        (("lora: {language_layers: 3}",), 4, "prev_checkpoint", "its modules must equal L3-V4"),
    ],
)
def test_what_no_base_or_parent_can_take_is_refused_with_file_line_and_key(
    lines: tuple[str, ...], line: int, key: str, expected: str, staged: StagedStudy, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(rows_of(staged.stages[0].spec))
    two.write_text(rows_of(staged.stages[1].spec) + "\n".join(("prev_checkpoint: one", *lines)) + "\n")
    with pytest.raises(UserError) as error:
        curriculum(STUDY, CurriculumInput(files=(one, two)), Launch(), tmp_path / "data")
    assert error.value.message.startswith(f"{two}:{line}: `{key}`")
    assert expected in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("lora", "placement"),
    [
        ("", Placement(language=2, vision=4)),
        ("lora: {vision_blocks: 1}\n", Placement(language=2, vision=1)),
        ("lora: {language_layers: 3}\n", Placement(language=3, vision=4)),
        ("lora: {language_layers: 0, vision_blocks: 1}\n", Placement(language=0, vision=1)),
    ],
)
def test_an_omitted_depth_is_the_miniatures_default(
    lora: str, placement: Placement, staged: StagedStudy, tmp_path: Path
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(rows_of(staged.stages[0].spec) + lora)
    own = curriculum(STUDY, CurriculumInput(files=(path,)), Launch(), tmp_path / "data")
    assert own.stages[0].spec.placement == placement


def test_without_language_layers_a_base_is_adapted_in_all_of_them(staged: StagedStudy, tmp_path: Path) -> None:
    base = staged.stages[0].spec.base.path
    path = tmp_path / "one.yaml"
    every = "q_proj, k_proj, v_proj, o_proj, qkv, proj"
    for lora, placement in (
        ("", Placement(language=8)),
        (f"lora: {{vision_blocks: 2, target_modules: [{every}]}}\n", Placement(language=8, vision=2)),
        ("lora: {language_layers: 1}\n", Placement(language=1)),
    ):
        path.write_text(f"{rows_of(staged.stages[0].spec)}base_model: {base}\n{lora}")
        own = curriculum(STUDY, CurriculumInput(files=(path,)), Launch(), tmp_path / "data")
        assert own.stages[0].spec.placement == placement


def test_stages_of_files_keep_the_ratio_of_rates_and_take_what_is_said(staged: StagedStudy, tmp_path: Path) -> None:
    paths = []
    for number, stage in enumerate(staged.stages, start=1):
        path = tmp_path / f"stage{number}.yaml"
        parent = f"prev_checkpoint: stage{number - 1}\n" if number > 1 else ""
        path.write_text(
            f"train: {stage.spec.train.path}\nvalidation: {stage.spec.validation.path}\nood: {stage.spec.ood.path}\n"
            f"{parent}epochs: 0.5\nlora: {{r: 4, alpha: 8}}\n"
        )
        paths.append(path)
    own = curriculum(STUDY, CurriculumInput(files=paths, fixed={"seed": 3}), Launch(), tmp_path / "data")
    specs = [stage.spec for stage in own.stages]
    assert [spec.name for spec in specs] == ["stage1", "stage2", "stage3"]
    assert [spec.learning_rate for spec in specs] == [stage.spec.learning_rate for stage in staged.stages]
    assert {(spec.rank, spec.alpha, spec.steps, spec.seed) for spec in specs} == {(4, 8.0, 20, 3)}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (("lr: 1.0e-4\n", ""), "`lr` must be given in every stage or in none, but two has none"),
        (("base_model: a\n", "base_model: b\n"), "must be the base of all stages, a, but it is b"),
    ],
)
def test_stages_that_disagree_are_refused(
    extra: tuple[str, str], expected: str, staged: StagedStudy, tmp_path: Path
) -> None:
    spec = staged.stages[0].spec
    rows = f"train: {spec.train.path}\nvalidation: {spec.validation.path}\nood: {spec.ood.path}\n"
    (tmp_path / "one.yaml").write_text(rows + extra[0])
    (tmp_path / "two.yaml").write_text(rows + "prev_checkpoint: one\n" + extra[1])
    with pytest.raises(UserError, match=expected):
        curriculum(
            STUDY, CurriculumInput(files=(tmp_path / "one.yaml", tmp_path / "two.yaml")), Launch(), tmp_path / "data"
        )


@pytest.mark.parametrize(("number", "key"), [(1, "train"), (2, "validation"), (3, "ood")])
def test_an_empty_split_is_named(number: int, key: str, staged: StagedStudy, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    path = tmp_path / "one.yaml"
    path.write_text(rows_of(staged.stages[0].spec, **{key: Path("empty.jsonl")}))
    with pytest.raises(UserError) as error:
        curriculum(STUDY, CurriculumInput(files=(path,)), Launch(), tmp_path / "data")
    empty = tmp_path / "empty.jsonl"
    assert error.value.message.startswith(f"{path}:{number}: `{key}`: {empty}: a data file must hold at least one row")
    assert "writes an example" in (error.value.hint or "")


def test_a_base_of_ones_own_needs_stages_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs stages of your own"):
        curriculum(STUDY, CurriculumInput(), Launch(base="somewhere"), tmp_path)

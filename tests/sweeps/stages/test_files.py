"""Tests stage files in YAML: their values, their order, and errors with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.stages.files import read_stages
from trainables.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    for name in ("train", "val", "ood"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n", encoding="utf-8")

    def stage(name: str, *lines: str, data: bool = True) -> Path:
        path = tmp_path / f"{name}.yaml"
        rows = ["train: train.jsonl", "validation: val.jsonl", "ood: ood.jsonl"] if data else []
        path.write_text("\n".join([*rows, *lines]) + "\n", encoding="utf-8")
        return path

    return stage


def adapter(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (directory / name).write_text("{}", encoding="utf-8")
    return directory


SHARED = (
    "base_model: Qwen/Qwen3-VL-8B-Instruct",
    "lora: {r: 4, alpha: 8, target_modules: [q_proj, k_proj, v_proj, o_proj]}",
)


def test_three_files_are_one_chain_whatever_their_order(write: Write, tmp_path: Path) -> None:
    paths = [
        write("exp4_stage3", *SHARED, "lr: 2.5e-5", "prev_checkpoint: models/exp4_curriculum/stage2"),
        write("exp4_stage1", *SHARED, "lr: 5.0e-5", "output_dir: models/exp4_curriculum/stage1"),
        write("exp4_stage2", *SHARED, "lr: 3.5e-5", "prev_checkpoint: models/exp4_curriculum/stage1/",
              "output_dir: models/exp4_curriculum/stage2"),
    ]  # fmt: skip
    chain = read_stages(paths)
    assert [stage.name for stage in chain.stages] == ["exp4_stage1", "exp4_stage2", "exp4_stage3"]
    assert chain.start is None
    assert [stage.settings for stage in chain.stages] == [
        {"learning_rate": rate, "rank": 4, "alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
        for rate in (5.0e-5, 3.5e-5, 2.5e-5)
    ]
    assert chain.stages[0].path("train") == tmp_path / "train.jsonl"


def test_one_file_holds_them_all(tmp_path: Path, write: Write) -> None:
    rows = "train: train.jsonl, validation: val.jsonl, ood: ood.jsonl"
    path = write("all", "stages:", f"  - {{{rows}, name: easy, epochs: 0.5}}",
                 f"  - {{{rows}, name: hard, prev_checkpoint: easy, lora: {{language_layers: 2, vision_blocks: 4}}}}",
                 data=False)  # fmt: skip
    chain = read_stages([path])
    assert [stage.name for stage in chain.stages] == ["easy", "hard"]
    assert chain.stages[0].settings == {"epochs": 0.5}
    assert chain.stages[1].settings == {}
    assert chain.stages[1].depths == {"language": 2, "vision": 4}
    assert chain.stages[1].where("prev_checkpoint") == f"{path}:3: `stages[1].prev_checkpoint`"


def test_a_chain_may_begin_at_an_adapter_from_elsewhere(write: Write, tmp_path: Path) -> None:
    directory = adapter(tmp_path / "earlier" / "best")
    chain = read_stages([write("one", "prev_checkpoint: earlier/best")])
    assert chain.start == directory


@pytest.mark.parametrize(
    ("lines", "expected", "hint"),
    [
        (("learning_rate: 1.0e-4",), ":4: `learning_rate` is not a key of a stage", "known:"),
        (("outpu_dir: x",), ":4: `outpu_dir` is not a key of a stage", "`output_dir`"),
        (("lora: {rank: 4}",), ":4: `lora.rank` is not a key of a stage", "known:"),
        (("lora: {r: four}",), ":4: `lora.r` must be a whole number, but got 'four'", "write it as 8"),
        (("lora: {r: '4'}",), ":4: `lora.r` must be a whole number, but got '4'", "write 4 without quotes"),
        (("lora: {r: true}",), ":4: `lora.r` must be a whole number, but got True", "write it as 8"),
        (("lora: {r: 4.5}",), ":4: `lora.r` must be a whole number, but got 4.5", "write it as 8"),
        (("lora: [4]",), ":4: `lora` must be a mapping, but got [4]", "{r: 4, alpha: 8}"),
        (("lora: {target_modules: [1]}",), ":4: `lora.target_modules` must be names of modules", "[q_proj, v_proj]"),
        (("lora: {target_modules: q_proj}",), ":4: `lora.target_modules` must be a list", "[q_proj, v_proj]"),
        (("name: yes",), ":4: `name` must be a text, but got True", "quote it"),
        (("lr: '1e-4'",), ":4: `lr` must be a number, but got '1e-4'", "write 1e-4 without quotes"),
        (("lr: 1.0e-4", "lr: 2.0e-4"), ":5: `lr`", "remove one"),
        (("steps: 5", "epochs: 1.0"), "both set the budget", "remove one"),
        (("name: a/b",), ":4: `name` must be letters, digits and _, but got 'a/b'", "name of the file"),
        (("lr: -1.0",), ":4: `lr` must be above 0, but got -1.0", "the study's value"),
        (("lr: 0.0",), ":4: `lr` must be above 0, but got 0.0", "the study's value"),
        (("vision_lr: 0",), ":4: `vision_lr` must be above 0, but got 0", "the study's value"),
        (("epochs: 0.0",), ":4: `epochs` must be above 0, but got 0.0", "the study's value"),
        (("epochs: -3",), ":4: `epochs` must be above 0, but got -3", "the study's value"),
        (("steps: 0",), ":4: `steps` must be 1 or more, but got 0", "the study's value"),
        (("eval_every: 0",), ":4: `eval_every` must be 1 or more, but got 0", "the study's value"),
        (("lora: {r: 0}",), ":4: `lora.r` must be 1 or more, but got 0", "the study's value"),
        (("lora:", "  alpha: 0"), ":5: `lora.alpha` must be above 0, but got 0", "the study's value"),
        (("lora: {dropout: 1}",), ":4: `lora.dropout` must be 0 or more and below 1, but got 1", "the study's value"),
        (("lora: {dropout: -0.1}",), ":4: `lora.dropout` must be 0 or more and below 1", "the study's value"),
        (("lora: {language_layers: -1}",), ":4: `lora.language_layers` must be 0 or more, but got -1", "the study's"),
        (("lora: {vision_blocks: -1}",), ":4: `lora.vision_blocks` must be 0 or more, but got -1", "the study's value"),
        (("prev_checkpoint: models/stage1",), ":4: `prev_checkpoint` must be a stage or a directory", "output_dir"),
        (("prev_checkpoint: one",), ":4: `prev_checkpoint` must lead back to a first stage", "first stage has no"),
    ],
)
def test_a_bad_stage_is_refused_with_file_line_and_key(
    lines: tuple[str, ...], expected: str, hint: str, write: Write
) -> None:
    path = write("one", *lines)
    with pytest.raises(UserError) as error:
        read_stages([path])
    assert expected in error.value.message and str(path) in error.value.message
    assert error.value.hint and hint in error.value.hint + error.value.message
    assert error.value.exit_code == 2


def test_the_edge_of_what_a_value_may_be_is_read(write: Write) -> None:
    lora = "lora: {r: 1, alpha: 0.5, dropout: 0, language_layers: 0, vision_blocks: 0}"
    chain = read_stages([write("one", "lr: 1.0e-9", "steps: 1", "eval_every: 1", lora)])
    settings = {"learning_rate": 1e-9, "steps": 1, "eval_every_steps": 1, "rank": 1, "alpha": 0.5, "dropout": 0}
    assert chain.stages[0].settings == settings
    assert chain.stages[0].depths == {"language": 0, "vision": 0}


def test_a_stage_is_found_by_its_name_as_it_was_written(write: Write) -> None:
    paths = [write("three", "prev_checkpoint: s_2"), write("first", "name: s-1", "output_dir: out-1"),
             write("second", "name: s-2", "prev_checkpoint: s-1")]  # fmt: skip
    assert [stage.name for stage in read_stages(paths).stages] == ["s_1", "s_2", "three"]


def test_a_directory_named_like_another_stage_is_still_the_directory(write: Write) -> None:
    paths = [write("a", "name: s_1", "output_dir: out"), write("b", "output_dir: s-1", "prev_checkpoint: out"),
             write("c", "prev_checkpoint: s-1")]  # fmt: skip
    assert [stage.name for stage in read_stages(paths).stages] == ["s_1", "b", "c"]


def test_a_directory_without_an_adapter_is_refused_with_its_line(write: Write, tmp_path: Path) -> None:
    (tmp_path / "models" / "stage1").mkdir(parents=True)
    path = write("two", "prev_checkpoint: models/stage1")
    with pytest.raises(UserError) as error:
        read_stages([path])
    assert error.value.message.startswith(f"{path}:4: `prev_checkpoint`: {tmp_path / 'models' / 'stage1'}: an adapter")


def test_missing_rows_are_named(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage bare must have `train`"):
        read_stages([write("bare", "lr: 1.0e-4", data=False)])
    (tmp_path / "train.jsonl").unlink()
    path = write("one")
    with pytest.raises(UserError) as error:
        read_stages([path])
    assert error.value.message == f"{path}:1: `train` must be a file, but {tmp_path / 'train.jsonl'} is not"


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ({"a": "c", "b": "a", "c": "b"}, "the stages go in a circle: a -> b -> c"),
        ({"a": None, "b": "c", "c": "b"}, "must lead back to a, but it goes in a circle"),
        ({"a": None, "b": None}, "a and b both start one"),
        ({"a": None, "b": "a", "c": "a"}, "only one stage can continue a, but b does too"),
    ],
)
def test_stages_that_do_not_form_a_chain_are_refused(
    parents: dict[str, str | None], expected: str, write: Write
) -> None:
    paths = [write(name, *([f"prev_checkpoint: {one}"] if one else [])) for name, one in parents.items()]
    with pytest.raises(UserError) as error:
        read_stages(paths)
    assert expected in error.value.message and "prev_checkpoint" in error.value.message


def test_two_stages_of_one_name_are_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"`name`: the names of stages must differ"):
        read_stages([write("one", "name: same"), write("two", "name: same", "prev_checkpoint: same")])


def test_beside_a_list_of_stages_nothing_may_stand(write: Write) -> None:
    with pytest.raises(UserError, match="a file with `stages` must have no other key"):
        read_stages([write("all", "stages: []", "lr: 1.0e-4", data=False)])
    for number, value in enumerate(("[]", "{a: 1}", "[1]", "text")):
        with pytest.raises(UserError, match="must be a list of stages") as error:
            read_stages([write(f"none{number}", f"stages: {value}", data=False)])
        assert "- name: stage1" in (error.value.hint or "")

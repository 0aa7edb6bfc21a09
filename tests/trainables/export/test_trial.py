"""Tests the export of trials: real PEFT wraps exactly the placement's modules, and lost settings are listed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from ended import ended

from trainables.errors import UserError
from trainables.export.__main__ import main
from trainables.export.module_regex import module_expression
from trainables.export.trial import TOOLS, ExportedTrial, export_record, export_trial
from trainables.io.files import write_json
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.model.placement import resolve
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec

FAMILY, CONFIG = family_of(BASE_DIRECTORY)
MINI = FAMILY.towers(CONFIG)
PLACEMENTS = [
    (Placement(language=2, vision=4), ()),
    (Placement(language=1, vision=0), ()),
    (Placement(language=0, vision=1), ("proj",)),
    (Placement(language=8, vision=12), ()),
    (Placement(language=2, language_indices=(0, 1), modules="mlp"), ()),
    (Placement(language=4, language_indices=(1, 3, 5, 7), vision=2, vision_indices=(0, 11), modules="gate-up"), ()),
    (Placement(vision=3, vision_indices=(0, 1, 5), modules="attention"), ()),
    (Placement(language=4, vision=2), ("q_proj", "down_proj", "linear_fc2")),
]


def spec(**changes: Any) -> TrialSpec:
    sources = {key: Source(path=Path(f"/data/{key}.jsonl"), sha256=key) for key in ("train", "validation", "ood")}
    return TrialSpec(
        **{"name": "C2", "base": Source(path=Path("/models/base"), sha256="base"), **sources,
           "placement": Placement(language=2, vision=4), **changes}  # type: ignore[arg-type]
    )  # fmt: skip


def trial(**changes: Any) -> ExportedTrial:
    made = spec(**changes)
    return ExportedTrial(made, resolve(made.placement, MINI, made.target_modules).module_names)


@pytest.fixture(scope="module")
def model() -> Any:
    """The miniature without weights: PEFT only needs its modules' names."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    with torch.device("meta"):
        return Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_pretrained(BASE_DIRECTORY))


def wrapped(model: Any, targets: str | list[str]) -> set[str]:
    """Return the modules that PEFT wraps for `targets`, and unwrap them."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    names = {name for name, module in peft.named_modules() if isinstance(module, LoraLayer)}
    peft.unload()
    return {name.removeprefix("base_model.model.") for name in names}


@pytest.mark.parametrize(("placement", "targets"), PLACEMENTS)
def test_peft_wraps_exactly_the_placement(model: Any, placement: Placement, targets: tuple[str, ...]) -> None:
    modules = resolve(placement, MINI, targets).module_names
    assert wrapped(model, module_expression(modules)) == set(modules)


def test_peft_wraps_exactly_the_names_that_llamafactory_is_given(model: Any) -> None:
    given = yaml.safe_load(export_trial(trial(), "llamafactory"))["lora_target"].split(",")
    assert wrapped(model, given) == set(trial().modules)


def test_the_end_of_a_module_name_does_not_match(model: Any) -> None:
    # what the anchored expression guards against: PEFT matches whole names, and refuses what matches none
    with pytest.raises(ValueError, match="not found"):
        wrapped(model, r"language_model.layers.(6|7).(self_attn.(q_proj|k_proj|v_proj|o_proj))")


def test_an_expression_is_short_and_escapes_every_point() -> None:
    expression = module_expression(trial(placement=Placement(language=2)).modules)
    assert expression == (
        r"model\.language_model\.layers\.(6|7)\."
        r"(self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj))"
    )
    assert not re.fullmatch(expression, "modelxlanguage_model.layers.6.self_attn.q_proj")
    assert not re.fullmatch(expression, "model.language_model.layers.6.self_attn.q_proj.lora_A")
    with pytest.raises(ValueError, match="has no layer"):
        module_expression(["lm_head"])


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_written_is_yaml_that_every_reader_reads_alike(tool: str) -> None:
    from trainables.io.strict_yaml import parse_yaml

    text = export_trial(trial(learning_rate=1e-5, vision_learning_rate=3e-4), tool)
    assert parse_yaml(text, Path("c2.yaml")).values == yaml.safe_load(text)
    assert text.startswith(f"# Footprint's trial C2 ({trial(learning_rate=1e-5).spec.trial_id}) for {tool}.\n")
    assert "--ood /data/ood.jsonl" in text


@pytest.mark.parametrize(
    ("changes", "tool", "expected"),
    [
        ({}, "llamafactory", "vision_learning_rate 0.0003: LLaMA-Factory has one rate for both towers"),
        ({"data_seed": 7}, "axolotl", "data_seed 7: axolotl shuffles rows by the seed"),
        ({"schedule": "linear"}, "ms-swift", "min_rate_ratio 0.1: `linear` decays to 0 in the tool"),
        ({"batch_warmup_ratio": 0.5}, "ms-swift", "batch_warmup_ratio 0.5"),
        ({"packed_tokens": 4096}, "axolotl", "packed_tokens: packing is off"),
        ({"steps": 5}, "axolotl", "warm-up of 1 step: axolotl turns it into 2"),
        ({"earlier": (Source(path=Path("e.jsonl"), sha256="e"),)}, "axolotl", "the rows of 1 earlier stages"),
        (
            {"init_from": Source(path=Path("/a"), sha256="a"), "optimizer": "resumed"},
            "ms-swift",
            "the optimizer state is not loaded",
        ),
        ({}, "llamafactory", 'data/dataset_info.json must hold {"train": {"file_name": "/data/train.jsonl"'),
    ],
)
def test_settings_that_a_tool_lacks_are_listed_in_the_header(changes: dict[str, Any], tool: str, expected: str) -> None:
    comments = [line for line in export_trial(trial(**changes), tool).splitlines() if line.startswith("# - ")]
    assert any(expected in line for line in comments)


def test_a_single_trained_tower_has_its_own_rate() -> None:
    keys = yaml.safe_load(export_trial(trial(placement=Placement(vision=4)), "llamafactory"))
    assert keys["learning_rate"] == 3e-4
    assert keys["freeze_language_model"] is True and keys["freeze_vision_tower"] is False


def test_a_baseline_and_an_unknown_tool_are_refused() -> None:
    with pytest.raises(UserError, match="only a trial that trains"):
        export_trial(ExportedTrial(spec().baseline(), ()), "axolotl")
    with pytest.raises(UserError, match="must be one of axolotl, ms-swift, llamafactory") as caught:
        export_trial(trial(), "axolotle")
    assert caught.value.hint == "did you mean `axolotl`?"


def test_a_record_is_exported_from_its_own_files(tmp_path: Path) -> None:
    record = Record(tmp_path / "C2-0")
    rows = tmp_path / "train.jsonl"
    rows.write_text('{"text": "ls -l"}\n')
    record.create(spec(train=Source(path=rows, sha256="train")))
    refused = ended(main, record.directory, "--as", "axolotl")
    assert refused.exit_code == 2
    assert "must be the directory of a started trial" in refused.stderr
    towers = resolve(Placement(language=2, vision=4), MINI).linears
    write_json(record.directory / "placement.json",
               {tower: {"modules": [one.name for one in linears]} for tower, linears in towers.items()})  # fmt: skip
    assert ended(main, record.directory, "--as", "axolotl", "--out", tmp_path / "c2.yaml").exit_code == 0
    written = (tmp_path / "c2.yaml").read_text()
    assert written == export_record(record, "axolotl")
    keys = yaml.safe_load(written)
    assert keys["datasets"][0] == {"path": str(rows), "ds_type": "json", "split": "train", "type": "completion",
                                   "field": "text"}  # fmt: skip
    assert keys["lr_groups"] == [{"name": "vision", "modules": ["model.visual.blocks"], "lr": 3e-4}]

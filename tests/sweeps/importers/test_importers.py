"""Tests the importers on real files: every key is used, ignored for a reason, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sweeps import trial as trial_cli
from sweeps.importers import settings as settings_module
from sweeps.importers.files import TOOLS, rows_of, tool_of
from sweeps.importers.import_report import as_json, differences_text, keys_text, settings_text
from sweeps.importers.parsing import parse_config
from sweeps.importers.rules import Accepts, Entries, Ignored, KeyRule, Replaced, Section, Sets, Table, Tool
from sweeps.importers.settings import ImportedSettings, settings_of
from trainables.errors import UserError
from trainables.export.trial import ExportedTrial, export_trial
from trainables.io.strict_yaml import parse_yaml, read_yaml
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.model.families import FAMILIES, family_of
from trainables.model.placement import resolve
from trainables.spec import Placement, Source, TrialSpec, parse_spec

CONFIGS = Path(__file__).parent / "configs"
# as their own config.json have them
QWEN2_5_CODER_7B = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
                    "num_attention_heads": 28, "num_key_value_heads": 4}  # fmt: skip
QWEN3_VL_4B = {
    "model_type": "qwen3_vl",
    "text_config": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "head_dim": 128,
                    "num_attention_heads": 32, "num_key_value_heads": 8},
    "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24,
                      "deepstack_visual_indexes": [5, 11, 17]},
}  # fmt: skip
MINI_CONFIG = family_of(BASE_DIRECTORY)[1]
EVERYWHERE = ("base", "train", "validation", "ood")


def imported(text: str | Path, config: dict[str, Any] = QWEN3_VL_4B, rows: int = 1000) -> ImportedSettings:
    document = read_yaml(text) if isinstance(text, Path) else parse_yaml(text, Path("c.yaml"))
    parsed = parse_config(document, without_sources(tool_of(document)))
    return settings_of(parsed, FAMILIES[config["model_type"]].towers(config), config, rows)


def without_sources(tool: Tool) -> Tool:
    """Return the tool without the requirement that a file names its base and its rows."""
    return replace(tool, required={name: why for name, why in tool.required.items() if name not in EVERYWHERE})


def refused(text: str | Path, config: dict[str, Any] = QWEN3_VL_4B) -> UserError:
    with pytest.raises(UserError) as caught:
        imported(text, config)
    return caught.value


# ------------------------------------------------------------------------------------- whole files
def test_the_command_assistant_of_axolotl_is_the_trial_it_describes() -> None:
    found = imported(CONFIGS / "axolotl_command_assistant.yaml", QWEN2_5_CODER_7B, rows=1388)
    assert found.placement == Placement(language=28)
    assert found.as_values() == {
        "target_modules": ("q_proj", "k_proj", "v_proj", "o_proj"), "rank": 8, "alpha": 16.0, "dropout": 0.05,
        "rslora": False, "quantization": "nf4-double", "compute_dtype": "bfloat16", "max_tokens": 1024,
        "learning_rate": 2e-4, "vision_learning_rate": 2e-4, "weight_decay": 0.0, "adam_beta2": 0.999,
        "max_gradient_norm": 1.0, "seed": 42, "data_seed": 42, "schedule": "cosine", "warmup_ratio": 0.1,
        "min_rate_ratio": 0.0, "steps": 500, "batch_rows": 1, "accumulation_steps": 4, "eval_every_steps": 100,
    }  # fmt: skip
    towers = FAMILIES["qwen2"].towers(QWEN2_5_CODER_7B)
    # what PEFT prints as trainable parameters of r=8 on q, k, v, o of this model
    assert resolve(found.placement, towers, ("q_proj", "k_proj", "v_proj", "o_proj")).total_parameters(8) == 5_046_272


def test_the_smoke_test_of_the_command_assistant_differs_in_its_budget_alone() -> None:
    whole = imported(CONFIGS / "axolotl_command_assistant.yaml", QWEN2_5_CODER_7B).as_values()
    smoke = imported(CONFIGS / "axolotl_command_assistant_smoke.yaml", QWEN2_5_CODER_7B).as_values()
    differing = {key: smoke[key] for key in smoke if smoke[key] != whole[key]}
    assert differing == {"steps": 10, "eval_every_steps": 5, "warmup_ratio": 0.2}  # 1 step of 10, which axolotl makes 2


def test_arm_c2_in_ms_swifts_keys_is_arm_c2() -> None:
    found = imported(CONFIGS / "swift_stage4_c2.yaml", rows=960)
    values = found.as_values()
    assert (found.placement, values["target_modules"]) == (Placement(language=2, vision=4), ())
    output = {one.name: one.source for one in found.settings} | {found.where.name: found.where.source}
    assert output["placement"].startswith("`tuner.target_regex`: by expression, matched against the end of a name")
    assert output["batch_rows"].endswith("in the tool a packed sequence counts as one row, so its steps hold more rows")
    expected = {"rank": 16, "alpha": 32.0, "dropout": 0.1, "learning_rate": 1e-4, "vision_learning_rate": 3e-4,
                "weight_decay": 0.1, "warmup_ratio": 0.2, "min_rate_ratio": 0.1, "steps": 120, "batch_rows": 2,
                "accumulation_steps": 8, "eval_every_steps": 50, "compute_dtype": "bfloat16", "quantization": "none",
                "max_tokens": 4096}  # fmt: skip
    assert {key: values[key] for key in expected} == pytest.approx(expected)


def test_llamafactorys_example_takes_its_defaults(tmp_path: Path) -> None:
    found = imported(CONFIGS / "llamafactory_qwen3vl_lora_sft.yaml", rows=1000)
    sources = {one.name: one.source for one in found.settings}
    values = found.as_values()
    assert (found.placement, values["target_modules"]) == (Placement(language=36), ())  # the tower of vision is frozen
    assert (values["alpha"], sources["alpha"]) == (16.0, "default of llamafactory: 2 x rank")
    assert (values["dropout"], sources["dropout"]) == (0.0, "default of llamafactory")
    assert values["steps"] == 375  # 3 x ceil(1000 / 8)


def test_names_of_llamafactory_are_looked_up_in_its_table(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = {"cabinets": {"file_name": "rows.jsonl"}, "cabinets_val": {"file_name": "none.jsonl"}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(table))
    (tmp_path / "data" / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    config = tmp_path / "sft.yaml"
    config.write_text((CONFIGS / "llamafactory_qwen3vl_lora_sft.yaml").read_text())
    parsed = parse_config(read_yaml(config), TOOLS["llamafactory"])
    assert str(rows_of(parsed, "train")) == f"{tmp_path}/data/dataset_info.json:cabinets"
    with pytest.raises(UserError, match=r"sft.yaml:17: `eval_dataset` must name a file with rows, but .*none.jsonl"):
        rows_of(parsed, "validation")


# ------------------------------------------------------------------------------------- single keys
AXOLOTL = """\
base_model: base
adapter: lora
lora_r: 8
lora_alpha: 16
learning_rate: 1.0e-4
max_steps: 100
"""
SWIFT = "model: base\ntarget_modules: [all-linear]\nmax_steps: 100\n"
LLAMA = "model_name_or_path: base\nlora_target: all\nmax_steps: 100\n"


def with_target(text: str, more: str = "lora_target_modules: [q_proj]\n") -> str:
    return AXOLOTL + more + text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_target("load_in_8bit: true\n"), {"quantization": "int8"}),
        (with_target("load_in_4bit: true\nbnb_config_kwargs: {bnb_4bit_use_double_quant: false}\n"),
         {"quantization": "nf4"}),
        (with_target("load_in_4bit: true\nbnb_config_kwargs: {bnb_4bit_use_double_quant: false, "
                     "bnb_4bit_quant_type: fp4}\n"), {"quantization": "fp4"}),
        (with_target(""), {"quantization": "none", "warmup_ratio": 0.03, "compute_dtype": "auto"}),
        (with_target("warmup_steps: 0\n"), {"warmup_ratio": 0.0}),
        (with_target("warmup_ratio: 0.059\n"), {"warmup_ratio": 0.05}),  # axolotl rounds down
        (with_target("cosine_min_lr_ratio: 0.1\n"), {"min_rate_ratio": 0.1}),
        (with_target("lr_scheduler: constant_with_warmup\nwarmup_steps: 10\n"),
         {"schedule": "constant", "warmup_ratio": 0.1}),
        (with_target("lr_scheduler: constant\nwarmup_steps: 10\n"), {"schedule": "constant", "warmup_ratio": 0.0}),
        (with_target("fp16: true\nbf16: false\n"), {"compute_dtype": "float16"}),
        (with_target("bf16: false\n"), {"compute_dtype": "float32"}),
        (with_target("eval_steps: 0.25\n"), {"eval_every_steps": 25}),
        (with_target("evals_per_epoch: 4\nmicro_batch_size: 10\n"), {"eval_every_steps": 25}),
        (with_target("eval_strategy: no_\n".replace("no_", "'no'")), {"eval_every_steps": 25}),
        (with_target("lr_groups: [{name: v, modules: [visual], lr: 3.0e-4}]\n"), {"vision_learning_rate": 3e-4}),
        (SWIFT + "quant_bits: 4\n", {"quantization": "nf4-double"}),
        (SWIFT + "per_device_train_batch_size: 3\n", {"batch_rows": 3, "accumulation_steps": 6}),  # at least 16 rows
        (SWIFT, {"weight_decay": 0.1, "learning_rate": 1e-4, "alpha": 32.0, "rank": 8, "dropout": 0.05}),
        (SWIFT + "warmup_ratio: 0.07\n", {"warmup_ratio": 0.07}),
        (SWIFT + "warmup_steps: 7\n", {"warmup_ratio": 0.07}),
        (LLAMA, {"schedule": "linear", "learning_rate": 5e-5, "batch_rows": 8, "weight_decay": 0.0}),
        (SWIFT + "packing: true\n", {"packed_tokens": 0}),  # the base sees
        (LLAMA + "quantization_bit: 4\ndouble_quantization: false\n", {"quantization": "nf4"}),
        (LLAMA + "lr_scheduler_type: warmup_stable_decay\n"
         "lr_scheduler_kwargs: {num_decay_steps: 20, decay_type: linear, min_lr_ratio: 0.1}\n",
         {"schedule": "stable", "min_rate_ratio": 0.1}),
    ],
)  # fmt: skip
def test_a_key_means_what_it_means_to_its_tool(text: str, expected: dict[str, Any]) -> None:
    values = imported(text).as_values()
    assert {key: values[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "placement", "names"),
    [
        (AXOLOTL + "lora_target_modules: [q_proj, v_proj]\n", Placement(language=36), ("q_proj", "v_proj")),
        (AXOLOTL + "lora_target_modules: [q_proj, qkv]\n", Placement(language=36, vision=24), ("q_proj", "qkv")),
        (AXOLOTL + "lora_target_modules: [q_proj]\npeft_layers_to_transform: [34, 35]\n", Placement(language=2),
         ("q_proj",)),
        (AXOLOTL + "lora_target_modules: [q_proj]\npeft_layers_to_transform: [0, 1]\n",
         Placement(language=2, language_indices=(0, 1)), ("q_proj",)),
        (AXOLOTL + r"lora_target_modules: 'model\.language_model\.layers\.(1|5)\.mlp\.(up|down)_proj'",
         Placement(language=2, language_indices=(1, 5)), ("up_proj", "down_proj")),
        (AXOLOTL + r"lora_target_modules: 'model\.visual\.blocks\.2[23]\.attn\.(qkv|proj)'", Placement(vision=2),
         ("qkv", "proj")),
        (SWIFT, Placement(language=36), ()),
        (SWIFT + "freeze_vit: false\n", Placement(language=36, vision=24), ()),
        (SWIFT + "freeze_vit: false\nfreeze_llm: true\n", Placement(vision=24), ()),
        (LLAMA, Placement(language=36), ()),
        (LLAMA.replace("all", "q_proj,v_proj"), Placement(language=36), ("q_proj", "v_proj")),
        (LLAMA.replace("all", "qkv,proj,q_proj") + "freeze_language_model: true\nfreeze_vision_tower: false\n",
         Placement(vision=24), ("qkv", "proj")),
    ],
)  # fmt: skip
def test_the_modules_of_a_tool_are_a_placement(text: str, placement: Placement, names: tuple[str, ...]) -> None:
    found = imported(text)
    assert (found.placement, found.as_values()["target_modules"]) == (placement, names)


def test_on_a_text_decoder_all_linear_layers_are_its_tower() -> None:
    found = imported(AXOLOTL + "lora_target_linear: true\n", QWEN2_5_CODER_7B)
    assert (found.placement, found.as_values()["target_modules"]) == (Placement(language=28), ())
    packed = imported(
        AXOLOTL + "lora_target_linear: true\nsample_packing: true\nsequence_len: 1024\n", QWEN2_5_CODER_7B
    )
    assert packed.as_values()["packed_tokens"] == 1024


@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        ("lora_target_linear: true\n", "`lora_target_linear` must name layers of the towers only, but it also names "
         "model.visual.patch_embed.proj", "an expression"),
        ("lora_target_modules: [linear_fc1]\n", "it also names model.visual.merger.linear_fc1", "an expression"),
        ("lora_target_modules: '.*visual.*'\n", "it also names model.visual.patch_embed.proj", None),
        ("lora_target_modules: [w1]\n", "must name layers of this base, but it matches none", "model.language_model"),
        ("lora_target_modules: '(q_proj'\n", "must be a regular expression, but missing )", None),
        ("lora_target_modules: 'model.language_model.layers.(3[45]).self_attn.q_proj|"
         "model.language_model.layers.35.mlp.up_proj'\n", "must name the same linears in every layer", "L2-V0"),
        ("", "`targets` (default of axolotl) must name the modules to adapt", None),
    ],
)  # fmt: skip
def test_modules_that_are_no_placement_are_refused(text: str, expected: str, hint: str | None) -> None:
    error = refused(AXOLOTL + text)
    assert expected in error.message
    assert hint is None or hint in str(error.hint)


@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        (with_target("lora_rr: 8\n"), "c.yaml:8: `lora_rr` is not a known key of axolotl", "did you mean `lora_r`?"),
        (with_target("trust_remote_code: maybe\n"), "c.yaml:8: `trust_remote_code` must be true (code of a model "
         "repository is never run), but got `maybe`", "true or false"),
        (with_target("val_set_size: 0.05\n"), "c.yaml:8: `val_set_size` must be off", "--val"),
        (with_target("optimizer: lion_8bit\n"), "`optimizer` must be one of `adamw_torch`", "adamw_torch"),
        (with_target("rl: dpo\n"), "`rl` must be left out (only supervised fine-tuning is supported), but got `dpo`",
         None),
        (with_target("peft_use_dora: true\n"), "`peft_use_dora` must be off (DoRA is another method)", None),
        (with_target("neftune_noise_alpha: 5\n"), "`neftune_noise_alpha` must be off", None),
        (with_target("lora_modules_to_save: [embed_tokens]\n"), "`lora_modules_to_save` must be left out", None),
        (with_target("chat_template: alpaca\n"), "`chat_template` must be one of", "base's own template"),
        (LLAMA + "template: default\n", "c.yaml:4: `template` must be one of", "`default` is not the base's own"),
        (SWIFT + "template: default\n", "c.yaml:4: `template` must be one of", "`default` is not the base's own"),
        (AXOLOTL.replace("1.0e-4", "0"), "c.yaml:5: `learning_rate` must be a rate above 0, but got 0", "1e-4"),
        (AXOLOTL.replace("1.0e-4", "-1.0e-4"), "c.yaml:5: `learning_rate` must be a rate above 0", "1e-4"),
        (with_target("lora_dropout: 1.5\n"), "c.yaml:8: `lora_dropout` must be a share from 0 to below 1", "0.05"),
        (AXOLOTL.replace("alpha: 16", "alpha: 0"), "c.yaml:4: `lora_alpha` must be a number above 0", "rank"),
        (with_target("seed: -1\n"), "c.yaml:8: `seed` must be a whole number of at least 0", "42"),
        (with_target("cosine_min_lr_ratio: 2\n"), "c.yaml:8: `cosine_min_lr_ratio` must be a share from 0 to 1", "0.1"),
        (with_target("warmup_ratio: 3\n"), "c.yaml:8: `warmup_ratio` must be a share from 0 to 1", "0.1"),
        (with_target("lr_groups: [{name: v, modules: [visual], lr: 0}]\n"), "`lr_groups[0].lr` must be a rate above 0",
         "freeze"),
        (SWIFT + "vit_lr: 0\n", "c.yaml:4: `vit_lr` must be a rate above 0, but got 0", "freeze"),
        (with_target("dataset_exact_deduplication: true\n"), "`dataset_exact_deduplication` must be off", "duplicates"),
        (with_target("s2_attention: true\n"), "`s2_attention` must be off (it trains with another attention)", None),
        (with_target("auto_find_batch_size: true\n"), "`auto_find_batch_size` must be off", None),
        (LLAMA + "auto_find_batch_size: true\n", "`auto_find_batch_size` must be off", None),
        (LLAMA + "image_max_pixels: 262144\n", "`image_max_pixels` must be left out (the base's", "preprocessor"),
        (SWIFT + "max_pixels: 262144\n", "`max_pixels` must be left out (the base's", "preprocessor"),
        (with_target("image_size: 512\n"), "`image_size` must be left out (the base's", "preprocessor"),
        (LLAMA + "tokenized_path: x\n", "`tokenized_path` must be left out", None),
        (with_target("dataloader_drop_last: true\n"), "`dataloader_drop_last` must be off", None),
        (with_target("eot_tokens: ['<stop>']\n"), "`eot_tokens` must be tokens that end a turn", "remove the key"),
        (with_target("plugins: [a.Plugin]\n"), "`plugins` must be left out (code of plugins is not run)", None),
        (with_target("special_tokens: [x]\n"), "`special_tokens` must be a mapping of token names", "pad_token"),
        (with_target("datasets: [{path: a, roles_to_train: [user]}]\n"), "`datasets[0].roles_to_train` must be "
         "[assistant]", "remove the key"),
        (with_target("datasets: [{path: a, message_property_mappings: {role: who, content: what}}]\n"),
         "`datasets[0].message_property_mappings` must be {role: from", "rename the keys"),
        (with_target("datasets: [{path: a, roles: {user: [me]}}]\n"), "`datasets[0].roles` must be names", "rename"),
        (with_target("datasets: [{path: a, drop_system_message: true}]\n"), "`datasets[0].drop_system_message` must be "
         "off", None),
        (SWIFT + "split_dataset_ratio: 0.01\n", "`split_dataset_ratio` must be off", "val_dataset"),
        (SWIFT + "loss_type: infonce\n", "`loss_type` must be one of `cross_entropy`", None),
        (with_target("weight_decay: '1e-4'\n"), "`weight_decay` must be a number, but got `1e-4`", "without quotes"),
        (with_target("max_grad_norm: 0\n"), "`max_grad_norm` must be a number above 0", None),
        (with_target("micro_batch_size: 1.5\n"), "`micro_batch_size` must be a whole number", None),
        (with_target("bf16: true\nfp16: true\n"), "c.yaml:9: `fp16` must be off if bf16 is on", None),
        (with_target("load_in_4bit: true\nload_in_8bit: true\n"), "`load_in_8bit` must be off if load_in_4bit", None),
        (with_target("datasets: []\n"), "c.yaml:8: `datasets` must be a list of one dataset, but got []", "join"),
        (with_target("datasets:\n  - path: ''\n"), "c.yaml:9: `datasets[0].path` must be given, not empty", None),
        (with_target("datasets:\n  - {path: a, split: validation}\n"), "c.yaml:9: `datasets[0].split` must be "
         "`train`", "name the file of that split"),
        (with_target("datasets: [{path: a}, {path: b}]\n"), "must be a list of one dataset", "join the files"),
        (with_target("warmup_steps: 200\n"), "`warmup_steps` must be within the 100 steps of the run, but got 200",
         None),
        (AXOLOTL.replace("lora\n", "qlora\n"), "`adapter` needs load_in_4bit: true for qlora", None),
        (AXOLOTL.replace("adapter: lora\n", ""), "`adapter` must be lora or qlora; without it axolotl trains every "
         "weight", None),
        (SWIFT + "train_type: full\n", "`train_type` must be one of lora, but got `full`", "only LoRA is supported"),
        (SWIFT + "freeze_aligner: false\n", "`freeze_aligner` must be true (the aligner is never adapted)", None),
        (SWIFT + "tuner: {lora_rank: 4}\nlora_rank: 8\n", "`lora_rank` must be the only key for this, but there is "
         "also `tuner.lora_rank`", "remove one of the two"),
        (LLAMA + "stage: dpo\n", "`stage` must be `sft` (only supervised fine-tuning is supported)", None),
        (LLAMA + "packing: true\n", "`packing` must be off", "neat_packing: true keeps them separate"),
        (LLAMA + "dataset: a,b\n", "`dataset` must be one dataset, but got `a,b`", "join the files"),
        (LLAMA + "max_samples: 10\n", "`max_samples` must not cut the 1,000 training rows, but it keeps 10", None),
        (LLAMA + "quantization_bit: 3\n", "`quantization_bit` must be 4 or 8, but got 3", None),
    ],
)  # fmt: skip
def test_an_unsupported_value_is_refused_and_its_key_named(text: str, expected: str, hint: str | None) -> None:
    error = refused(text)
    assert expected in error.message
    assert hint is None or hint in str(error.hint)


def test_all_refusals_are_reported_at_once() -> None:
    error = refused(with_target("rl: dpo\nlora_rr: 8\nrelora: true\n"))
    lines = error.message.splitlines()
    assert [line.split(":")[1] for line in lines if line.startswith("c.yaml")] == ["8", "9", "10"]
    # each hint is on the line below its own problem
    assert lines[1:3] == [lines[1], "hint: did you mean `lora_r`?"] and "`lora_rr`" in lines[1]
    assert lines[3].startswith("c.yaml:10") and lines[4].startswith("hint: remove the key")


def test_missing_keys_are_reported_together_with_other_problems() -> None:
    text = "base_model: base\nadapter: lora\nlora_r: 0\nlora_rr: 8\ndatasets: []\n"
    document = parse_yaml(text, Path("c.yaml"))
    with pytest.raises(UserError) as caught:
        parse_config(document, TOOLS["axolotl"])
    output = caught.value.message
    for name in ("lora_alpha", "learning_rate", "test_datasets"):
        assert f"c.yaml: `{name}` must" in output
    assert "`lora_r` must be given" not in output  # it is given; its invalid value is reported
    assert output.count("`datasets`") == 1


def test_the_hint_on_an_unknown_key_lists_few_known_keys() -> None:
    hint = str(refused(with_target("zzzz_qq: 8\n")).hint)
    assert hint.startswith("the nearest of the ") and hint.count(",") == 4 and "remove the key" in hint


@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        ("lora_r: 8\n", "one key must identify the tool, but there is none of axolotl: base_model", "--format axolotl"),
        ("base_model: a\nmodel_name_or_path: b\n", "`base_model` of axolotl (line 1); `model_name_or_path` of "
         "llamafactory (line 2)", "--format axolotl or llamafactory"),
    ],
)  # fmt: skip
def test_a_file_of_no_tool_or_of_several_is_refused(text: str, expected: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        tool_of(parse_yaml(text, Path("c.yaml")))
    assert expected in caught.value.message and hint in str(caught.value.hint)
    assert tool_of(parse_yaml(text, Path("c.yaml")), "axolotl") is TOOLS["axolotl"]


# ------------------------------------------------------------------------------------- the tables
def rules(table: Table) -> Iterator[tuple[str, KeyRule]]:
    for key, rule in table.items():
        if isinstance(rule, Replaced):
            yield from rules({key: rule.rule})
            continue
        yield key, rule
        if isinstance(rule, Section | Entries):
            yield from rules(rule.table)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_every_key_of_a_table_is_classed_and_every_field_is_read(tool: Any) -> None:
    read = "".join(path.read_text() for path in Path(settings_module.__file__).parent.glob("*.py")
                   if path.stem not in {"axolotl", "axolotl_datasets", "swift", "llamafactory", "shared"})  # fmt: skip
    fields = {*tool.defaults, *tool.required}
    for key, rule in rules(tool.table):
        match rule:
            case Ignored(reason):
                assert reason, key
            case Accepts(harmless, why, _):
                assert why and all(harmless.values()), key
            case Sets(name) | Entries(name):
                fields.add(name)
    unread = {name for name in fields if f'"{name}"' not in read}
    assert unread == set()
    assert len(tool.table) > 90


def test_the_whole_file_is_shown_within_80_columns() -> None:
    document = read_yaml(CONFIGS / "axolotl_command_assistant.yaml")
    parsed = parse_config(document, without_sources(TOOLS["axolotl"]))
    found = settings_of(parsed, FAMILIES["qwen2"].towers(QWEN2_5_CODER_7B), QWEN2_5_CODER_7B, 1388)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(keys_text(parsed), *differences_text(parsed, found.settings), settings_text(found.settings))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80
    output = " ".join(shown.split())
    for key in (
        "(optimizer, line 43)",
        "wandb_log_model (63)",
        "gradient_accumulation_steps",
        "lora_fan_in_fan_out (21)",
    ):
        assert key in output
    assert "default of axolotl" in output and "AdamW with 32-bit states instead: results differ slightly" in output
    kept = as_json(parsed, found.settings)
    assert {one["key"].split(".")[0].split("[")[0] for one in kept["keys"]} == set(document.values)
    values = {one["key"]: one["value"] for one in kept["keys"]}
    assert values["gradient_accumulation_steps"] is not None
    assert values["wandb_log_model"] is None, "a key without effect may hold a secret, so its value is not kept"
    assert json.loads(json.dumps(kept)) == kept | {"settings": json.loads(json.dumps(kept["settings"]))}


# ------------------------------------------------------------------------------------- round trip
SPECS = [
    {},
    {"placement": {"language": 1, "vision": 0}, "target_modules": ("q_proj", "v_proj"), "quantization": "none"},
    {"placement": {"language": 0, "vision": 6}, "quantization": "int8", "schedule": "constant", "min_rate_ratio": 0.0},
    {"quantization": "fp4", "schedule": "stable", "warmup_ratio": 0.1, "rslora": True, "compute_dtype": "float16"},
    {"quantization": "nf4", "schedule": "linear", "min_rate_ratio": 0.0, "seed": 3, "data_seed": 3, "steps": 97,
     "warmup_ratio": 0.0, "compute_dtype": "bfloat16", "learning_rate": 1e-5, "vision_learning_rate": 1e-5},
]  # fmt: skip
NOT_EXPORTED = {"axolotl": {"data_seed"}, "ms-swift": set(), "llamafactory": {"vision_learning_rate", "compute_dtype"}}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("changes", SPECS)
def test_what_is_exported_is_imported_as_the_same_trial(tool: str, changes: dict[str, Any]) -> None:
    sources = {key: Source(path=Path(f"/data/{key}"), sha256=key) for key in EVERYWHERE}
    spec = parse_spec({"name": "C2", "placement": {"language": 2, "vision": 4}, "seed": 42, "data_seed": 42,
                       **sources, **changes})  # fmt: skip
    towers = FAMILIES["qwen3_vl"].towers(MINI_CONFIG)
    text = export_trial(ExportedTrial(spec, resolve(spec.placement, towers, spec.target_modules).module_names), tool)
    document = parse_yaml(text, Path("c2.yaml"))
    found = settings_of(parse_config(document, tool_of(document), EVERYWHERE), towers, MINI_CONFIG, 960)
    back = parse_spec({"name": spec.name, "placement": found.placement, **sources, **found.as_values()})
    lost = {key for key in TrialSpec.model_fields if getattr(back, key) != getattr(spec, key)}
    if spec.placement.language == 0:
        lost -= {"learning_rate"}  # of a tower that is not there
    if spec.placement.vision == 0:
        lost -= {"vision_learning_rate"}
    assert lost <= NOT_EXPORTED[tool]


# ------------------------------------------------------------------------------------- the command line
Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Call `python -m sweeps.trial` in a fresh directory; Ray must not start."""

    def no_ray(*_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("sweeps.execution.ray_session.ray_session", no_ray)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["sweeps.trial", *arguments])
        with pytest.raises(SystemExit) as exited:
            trial_cli.main()
        return int(exited.value.code or 0)

    return run


BAD_FILES = {
    "duplicate": ("lora_r: 8\nlora_r: 16\n", "bad.yaml:2: `lora_r` must occur once"),
    "tab": ("base_model:\n\tx: 1\n", "bad.yaml:2: must be indented with spaces, but there is a tab"),
    "text": (AXOLOTL.replace("1.0e-4", "'1e-4'"), "bad.yaml:5: `learning_rate` must be a number"),
    "bomb": ("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8)), "expand to at most 10,000 values"),
    "empty split": (with_target("datasets:\n  - path: x\ntest_datasets:\n"), "bad.yaml:10: `test_datasets` must be a "
                    "list of one dataset, but got nothing"),
    "empty file": (with_target("datasets: [{path: empty.jsonl}]\ntest_datasets: [{path: empty.jsonl}]\n"),
                   "bad.yaml:8: `datasets[0]` must name a file with rows, but"),
    "no file": (with_target("datasets: [{path: org/hub}]\ntest_datasets: [{path: x}]\n"),
                "bad.yaml:8: `datasets[0]` must name a file of rows, but there is no file `org/hub`"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_exits_2_and_starts_nothing(
    call: Call, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, output = BAD_FILES[name]
    (tmp_path / "bad.yaml").write_text(text)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "ood.jsonl").write_text("")
    before = sorted(path.name for path in tmp_path.iterdir())
    for more in ((), ("--dry-run",)):
        assert call("bad.yaml", "--ood", "ood.jsonl", *more) == 2
        assert output in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in sorted(tmp_path.iterdir())] in (before, sorted([*before, "runs"]))
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            (),
            "out-of-distribution rows are needed to measure lost generality, but --ood is not given and",
        ),
        (("--base", "mini", "--space", "rnk=4"), "--space must vary a setting, but got `rnk`"),
        (("--base", "mini", "--space", "rank=4;rank=8"), "--space must give `rank` once"),
        (("--base", "mini", "--space", "rank=a"), "--space: `rank` must be values"),
        (("--base", "mini", "--space", "language=-1"), "--space: `language` must be values"),
        (("--base", "mini", "--space", "language=9"), "asks for the last 9 of 8 language layers"),
        (("--base", "mini", "--format", "swift"), "--format must be one of axolotl, ms-swift, llamafactory"),
        (("--base", "mini", "--steps", "5", "--epochs", "1"), "only one of them may be given"),
    ],
)
def test_bad_options_are_explained(
    call: Call, arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(str(CONFIGS / "axolotl_command_assistant.yaml"), *arguments) == 2
    assert expected in capsys.readouterr().err


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The miniature's data, few training rows of it."""
    files = datasets.write(tmp_path_factory.mktemp("rows") / "data", 0)
    few = files.train.with_name("few.jsonl")
    few.write_text("".join(files.train.read_text(encoding="utf-8").splitlines(keepends=True)[:64]), encoding="utf-8")
    return {"train": few, "val": files.validation, "ood": files.ood}


def given(rows: dict[str, Path]) -> list[str]:
    return [word for name, path in rows.items() for word in (f"--{name}", str(path))]


@pytest.mark.slow
def test_a_file_is_planned_on_the_miniature_with_axes_around_it(
    call: Call, tmp_path: Path, rows: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    space = "rank=4,8;language=2,4;seeds=2"
    config = str(CONFIGS / "axolotl_command_assistant.yaml")
    assert call(config, "--base", "mini", *given(rows), "--space", space, "--dry-run") == 0
    output = capsys.readouterr().out
    for name in ("A0", *(f"L{layers}-V0-r{rank}-s{seed}" for layers in (2, 4) for rank in (4, 8) for seed in (42, 43))):
        assert name in output
    assert "9 trials, 500 steps of 4 rows on 64 training rows" in " ".join(output.split())
    assert list(tmp_path.iterdir()) == []


def test_the_page_about_imports_shows_what_is_printed(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "import.md").read_text(encoding="utf-8")
    shown = [line for line in page.split("```text\n")[1].split("```")[0].splitlines() if line not in ("", "…")]
    assert call(str(CONFIGS / "axolotl_command_assistant.yaml"), "--base", "mini-text", "--dry-run") == 0
    printed = iter([line.rstrip() for line in capsys.readouterr().out.splitlines()])
    assert [line for line in shown if line not in printed] == []  # `in` consumes: all of them, in this order


def test_a_recorded_trial_is_imported_with_its_id(
    call: Call, tmp_path: Path, rows: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from sweeps.planning.sources import gather
    from sweeps.planning.space import Axes, expand
    from sweeps.stage4 import STUDY

    spec = expand(STUDY, Axes(only=("C2",)), gather(None, rows["train"], rows["val"], rows["ood"], tmp_path))[1]
    record = tmp_path / f"C2-{spec.trial_id}"
    (record / "best").mkdir(parents=True)
    (record / "best" / "provenance.json").write_text(json.dumps({"spec": spec.model_dump(mode="json")}))
    assert call(str(record / "best" / "provenance.json"), "--dry-run") == 0
    # the very same trial: its id says so
    assert spec.trial_id[:8] in capsys.readouterr().out


def test_paths_are_relative_to_the_file_then_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "configs"
    own.mkdir()
    text = with_target("datasets: [{path: a.jsonl}]\ntest_datasets: [{path: b.jsonl}]\n")
    (own / "c.yaml").write_text(text)
    for path in (own / "a.jsonl", tmp_path / "a.jsonl", tmp_path / "b.jsonl"):
        path.write_text("{}\n")
    parsed = parse_config(read_yaml(own / "c.yaml"), TOOLS["axolotl"])
    assert rows_of(parsed, "train") == own / "a.jsonl"
    assert rows_of(parsed, "validation") == tmp_path / "b.jsonl"


def test_the_example_files_are_what_pyyaml_reads() -> None:
    for path in CONFIGS.glob("*.yaml"):
        assert read_yaml(path).values == yaml.safe_load(path.read_text())
        assert not re.search(r"/work|/tmp", path.read_text())

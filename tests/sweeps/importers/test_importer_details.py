"""Tests details of the importers: keys without effect, chat templates, eval intervals, ranges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution.options import Launch
from sweeps.importers.config import read_config
from sweeps.importers.files import TOOLS, tool_of
from sweeps.importers.parsing import ParsedConfig, parse_config
from sweeps.importers.ranges import check_ranges
from sweeps.importers.settings import ImportedSettings, Setting, settings_of
from sweeps.importers.templates import check_template
from sweeps.planning.sources import Begun
from trainables.errors import UserError, nearest
from trainables.io.strict_yaml import parse_yaml
from trainables.model.families import FAMILIES
from trainables.spec import Placement

QWEN2 = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
EVERYWHERE = ("base", "train", "validation", "ood")
HEADS = {
    "axolotl": "base_model: b\nadapter: lora\nlora_r: 8\nlora_alpha: 16\nlearning_rate: 1.0e-4\n"
               "lora_target_linear: true\nmax_steps: 1000\n",
    "ms-swift": "model: b\ntarget_modules: [all-linear]\nmax_steps: 1000\n",
    "llamafactory": "model_name_or_path: b\nlora_target: all\nmax_steps: 1000\n",
}  # fmt: skip


def parsed(tool: str, text: str) -> ParsedConfig:
    document = parse_yaml(HEADS[tool] + text, Path("c.yaml"))
    required = {name: why for name, why in TOOLS[tool].required.items() if name not in EVERYWHERE}
    return parse_config(document, replace(tool_of(document), required=required))


def imported(tool: str, text: str, rows: int = 16_000) -> ImportedSettings:
    return settings_of(parsed(tool, text), FAMILIES["qwen2"].towers(QWEN2), QWEN2, rows)


@pytest.mark.parametrize(
    ("tool", "text", "expected"),
    [
        ("axolotl", "special_tokens: {pad_token: x}", "padding is masked, whatever the token"),
        ("axolotl", "datasets: [{path: a, message_property_mappings: {role: from, content: value}}]", "the format"),
        ("axolotl", "datasets: [{path: a, message_property_mappings: {role: role, content: content}}]", "the format"),
        ("axolotl", "datasets: [{path: a, roles_to_train: [assistant]}]", "all assistant turns"),
        ("axolotl", "datasets: [{path: a, roles_to_train: [gpt]}]", "all assistant turns"),
        ("axolotl", "datasets: [{path: a, roles: {user: [human, user], assistant: [gpt]}}]", "the format"),
        ("axolotl", "eot_tokens: ['<|im_end|>']", "the base's own template ends each turn"),
        ("axolotl", "remove_unused_columns: false", "changes speed"),
        ("axolotl", "torch_compile_backend: inductor", "changes speed"),
        ("axolotl", "include_tokens_per_second: true", "every trial writes a record"),
        ("axolotl", "image_resize_algorithm: bilinear", "without image_size no image is resized"),
        ("axolotl", "dataloader_drop_last: false", "off"),
        ("axolotl", "dataset_exact_deduplication: false", "off"),
        ("axolotl", "plugins: [axolotl.integrations.liger.LigerPlugin]", "a faster kernel"),
        ("ms-swift", "val_dataset: v\nsplit_dataset_ratio: 0.01", "`val_dataset` holds the validation rows"),
        ("ms-swift", "data: {val_dataset: v, split_dataset_ratio: 0.01}", "`val_dataset` holds the validation rows"),
        ("ms-swift", "split_dataset_ratio: 0", "off"),
        ("ms-swift", "agent_template: hermes", "tool calls"),
        ("ms-swift", "loss_type: cross_entropy", "the same here"),
        ("llamafactory", "template: llama3", "the base's own chat template is used"),
        ("axolotl", "chat_template: gemma", "the base's own chat template is used"),
    ],
)  # fmt: skip
def test_a_key_without_effect_is_reported_with_its_reason(tool: str, text: str, expected: str) -> None:
    lines = {line.effect for line in parsed(tool, text + "\n").lines if not line.used}
    assert any(one.startswith(expected) or expected in one for one in lines)


TEMPLATES = {"chatml": "<|im_start|>user", "llama3": "<|start_header_id|>user", "gemma": "<start_of_turn>user"}


@pytest.mark.parametrize(
    ("tool", "text", "family", "own", "refused"),
    [
        ("llamafactory", "template: llama3", "llama", "llama3", ""),
        ("llamafactory", "template: llama3", "qwen2", "chatml", "that of llama and the base is a qwen2"),
        ("llamafactory", "template: llama3", "llama", "chatml", "the base's own template has no `<|start_header_id|>`"),
        ("llamafactory", "template: gemma", "gemma2", "gemma", ""),
        ("axolotl", "chat_template: chatml", "llama", "chatml", ""),
        ("axolotl", "chat_template: chatml", "llama", "llama3", "the base's own template has no `<|im_start|>`"),
        ("axolotl", "chat_template: tokenizer_default", "llama", "llama3", ""),
        ("axolotl", "datasets: [{path: a, chat_template: qwen_25}]", "gemma", "gemma", "that of qwen2"),
        ("ms-swift", "template: qwen2_5", "qwen2", "chatml", ""),
        ("ms-swift", "template: llama3", "llama", "", ""),  # no template: reported when rows are rendered
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["tokenizer_config.json", "chat_template.jinja"])
def test_only_the_bases_own_chat_template_is_accepted(
    tmp_path: Path, tool: str, text: str, family: str, own: str, refused: str, where: str
) -> None:
    if own:
        content = TEMPLATES[own]
        (tmp_path / where).write_text(json.dumps({"chat_template": content}) if where.endswith("json") else content)
    found = parsed(tool, text + "\n")
    if not refused:
        check_template(found, tmp_path, family)
        return
    with pytest.raises(UserError) as caught:
        check_template(found, tmp_path, family)
    assert refused in caught.value.message and caught.value.message.startswith("c.yaml:") and caught.value.hint


@pytest.mark.parametrize(
    ("tool", "text", "every"),
    [
        ("ms-swift", "", 250),  # 500 is the tool's own: two evals
        ("ms-swift", "eval_strategy: steps\n", 250),
        ("ms-swift", "eval_steps: 500\n", 500),  # written in the file
        ("ms-swift", "max_steps: 1001\n", 500),  # 500, 1000, 1001
        ("ms-swift", "max_steps: 75\n", 19),  # 19, 38, 57, 75: four, not five
        ("axolotl", "", 250),  # one epoch of 16,000 steps
        ("axolotl", "eval_strategy: epoch\nmicro_batch_size: 32\n", 500),
    ],
)
def test_without_an_eval_interval_there_are_enough_evals_for_guards(tool: str, text: str, every: int) -> None:
    head = HEADS[tool].replace("max_steps: 1000\n", "" if "max_steps" in text else "max_steps: 1000\n")
    document = parse_yaml(head + text, Path("c.yaml"))
    found = settings_of(
        parse_config(document, tool_of(document), EVERYWHERE), FAMILIES["qwen2"].towers(QWEN2), QWEN2, 16_000
    )
    output = next(one for one in found.settings if one.name == "eval_every_steps")
    assert output.value == every
    if tool == "ms-swift" and every == 250:
        assert output.source.startswith("4 evals, because guards need them; ") and output.source.endswith(
            "would give 2"
        )


def test_a_setting_out_of_range_names_the_key_it_comes_from() -> None:
    found = parsed("llamafactory", "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1.0}\n")
    with pytest.raises(UserError, match=r"c.yaml:5: `lr_scheduler_kwargs.min_lr` should be less than") as caught:
        check_ranges(found, settings_of(found, FAMILIES["qwen2"].towers(QWEN2), QWEN2, 1000))
    assert caught.value.hint
    broken = ImportedSettings(
        (Setting("rank", 0, ""), Setting("alpha", -1.0, "")), Placement(language=1), Setting("", "", "")
    )
    with pytest.raises(UserError) as several:
        check_ranges(found, broken)
    assert several.value.message.count("c.yaml") == 2


def test_a_missing_adapter_is_an_error_that_names_its_key(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    text = HEADS["axolotl"].replace("lora_target_linear: true", "lora_target_modules: [q_proj]")
    path.write_text(text + "lora_model_dir: /nope\n")
    with pytest.raises(UserError, match=r"c.yaml:8: `lora_model_dir` must name an adapter: .*/nope is not") as caught:
        read_config(path, "", Launch(base="mini-text"), tmp_path / "data", {}, Begun())
    assert caught.value.hint


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (["rank", "alpha"], "known: alpha, rank"),
        ([f"name{i}" for i in range(40)], "the nearest of the 40 known: "),
        (["zz", "rank"], "known: rank, zz"),
    ],
)
def test_an_unknown_word_gets_a_short_list_of_known_ones(known: Any, hint: str) -> None:
    output = nearest("qqqqqqqq", known)
    assert output.startswith(hint) and output.count(",") <= 4
    assert nearest("RANK", ["rank", "x"]) == "did you mean `rank`?"

"""Tests keys that options replace, keys whose effect is told, and configurations in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution.options import Launch
from sweeps.importers.base_checks import check_remote_code, check_special_tokens
from sweeps.importers.config import ImportedTrial, read_config
from sweeps.importers.documents import own_spec, read_document
from sweeps.importers.files import tool_of
from sweeps.importers.import_report import differences
from sweeps.importers.packing import PackedSteps, packed_steps, packing_finding
from sweeps.importers.parsing import ParsedConfig, parse_config
from sweeps.importers.settings import settings_of
from sweeps.planning.data_quality import file_quality
from sweeps.planning.sources import Begun
from trainables.data.rows import read_rows
from trainables.data.scan import ScannedRow
from trainables.errors import UserError
from trainables.io.strict_yaml import parse_yaml
from trainables.mini.text import BASE_DIRECTORY, datasets
from trainables.model.families import FAMILIES, family_of
from trainables.spec import Placement, Source, TrialSpec

OPTIONS = {"base": "--base", "train": "--train", "validation": "--val", "ood": "--ood"}
HEADS = {
    "axolotl": "base_model: b\nadapter: lora\nlora_r: 8\nlora_alpha: 16\n"
    "learning_rate: 1e-4\nlora_target_linear: true\n",
    "ms-swift": "model: b\ntuner_type: lora\n",
    "llamafactory": "model_name_or_path: b\nfinetuning_type: lora\nlora_target: all\n",
}
TEXT_FAMILY, TEXT_CONFIG = family_of(BASE_DIRECTORY)


def parsed(tool: str, text: str) -> ParsedConfig:
    document = parse_yaml(HEADS[tool] + text, Path("c.yaml"))
    return parse_config(document, tool_of(document), OPTIONS)


def effects(tool: str, text: str) -> dict[str, str]:
    return {line.key: line.effect for line in parsed(tool, text).lines}


def values_of(tool: str, text: str, rows: int = 600) -> dict[str, Any]:
    return settings_of(parsed(tool, text), TEXT_FAMILY.towers(TEXT_CONFIG), TEXT_CONFIG, rows).as_values()


@pytest.mark.parametrize(
    ("tool", "text", "by"),
    [
        ("axolotl", "val_set_size: 0.05\n", {"val_set_size": "--val"}),
        ("axolotl", "datasets: [{path: a/b, split: 'train[:5%]'}, {path: c, name: d, revision: e, unheard: 1}]\n",
         {f"datasets[{entry}].{key}": "--train" for entry, keys in enumerate((("path", "split"),
          ("path", "name", "revision", "unheard"))) for key in keys}),
        ("axolotl", "datasets:\n", {"datasets": "--train"}),
        ("axolotl", "datasets: [{path: a, drop_system_message: true, roles: {user: [me]}}]\n",
         {"datasets[0].drop_system_message": "--train", "datasets[0].roles": "--train"}),
        ("axolotl", "test_datasets: [{path: a, split: test}]\n", {"test_datasets[0].split": "--val"}),
        ("axolotl", "pretraining_dataset: a/b\ndataset_shard_num: 4\n",
         {"pretraining_dataset": "--train", "dataset_shard_num": "--train"}),
        ("ms-swift", "dataset: ['a/b#500', 'c/d:e#1']\nval_dataset: x\nsplit_dataset_ratio: 0.01\n",
         {"dataset": "--train", "val_dataset": "--val", "split_dataset_ratio": "--val"}),
        ("ms-swift", "cached_dataset: x\ncolumns: {a: b}\ninterleave_prob: [0.5, 0.5]\n",
         dict.fromkeys(("cached_dataset", "columns", "interleave_prob"), "--train")),
        ("ms-swift", "data: {dataset: a, split_dataset_ratio: 0.1}\n",
         {"data.dataset": "--train", "data.split_dataset_ratio": "--val"}),
        ("llamafactory", "dataset: a,b\neval_dataset: c,d\nval_size: 0.1\nmax_samples: 5\ntokenized_path: t\n",
         {"dataset": "--train", "eval_dataset": "--val", "val_size": "--val", "max_samples": "--train",
          "tokenized_path": "--train"}),
        ("llamafactory", "dataset_dir: REMOTE:x\nmix_strategy: interleave_under\ninterleave_probs: 0.5,0.5\n",
         dict.fromkeys(("dataset_dir", "mix_strategy", "interleave_probs"), "--train")),
    ],
)  # fmt: skip
def test_options_replace_what_chooses_splits_and_maps_rows(tool: str, text: str, by: dict[str, str]) -> None:
    found = effects(tool, text)
    assert {key: found[key] for key in by} == {key: f"replaced by {option}" for key, option in by.items()}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("datasets: [{path: a, roles_to_train: [user]}]\n", "`datasets[0].roles_to_train`"),
        ("datasets: [{path: a}, {path: b, train_on_eos: all}]\n", "`datasets[1].train_on_eos`"),
        ("datasets: [{path: a, chat_template: alpaca}]\n", "`datasets[0].chat_template`"),
        ("train_on_inputs: true\n", "`train_on_inputs`"),
    ],
)
def test_what_changes_the_loss_is_refused_whatever_the_rows(text: str, refused: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed("axolotl", text)
    assert refused in caught.value.message


def test_without_the_option_a_key_about_rows_keeps_its_meaning() -> None:
    document = parse_yaml(HEADS["axolotl"] + "val_set_size: 0.05\ndatasets: [{path: a}, {path: b}]\n", Path("c.yaml"))
    with pytest.raises(UserError) as caught:
        parse_config(document, tool_of(document), {"base": "--base", "train": "--train"})
    assert "`val_set_size` must be off" in caught.value.message and "`datasets`" not in caught.value.message


@pytest.mark.parametrize(
    ("tool", "text", "told"),
    [
        ("axolotl", "optimizer: adamw_torch_4bit\n", "AdamW with 32-bit states instead: results differ slightly"),
        ("axolotl", "datasets: [{path: a, type: alpaca}]\n", "renders rows in the prompt format alpaca"),
        ("axolotl", "datasets: [{path: a, type: {field_instruction: q}}]\n", "in the prompt format of its own"),
        ("axolotl", "early_stopping_patience: 3\n", "the trial is not stopped early"),
        ("axolotl", "bf16: false\nfp16: true\n", "axolotl scales the loss of float16"),
        ("axolotl", "load_in_4bit: true\nbf16: true\nbnb_config_kwargs: {bnb_4bit_compute_dtype: float16}\n",
         "multiplies 4-bit weights in float16; this trial in its compute dtype, bfloat16"),
        ("ms-swift", "streaming: true\nmax_steps: 10\n", "the file is read whole"),
        ("ms-swift", "torch_dtype: float32\n", "ms-swift computes float32 weights in float16"),
        ("llamafactory", "pure_bf16: true\n", "llamafactory trains the adapter in bfloat16, this trial in float32"),
    ],
)  # fmt: skip
def test_results_that_differ_are_told_apart_from_keys_without_effect(tool: str, text: str, told: str) -> None:
    found = parsed(tool, text)
    imported = settings_of(found, TEXT_FAMILY.towers(TEXT_CONFIG), TEXT_CONFIG, 600)
    assert any(told in one for one in differences(found, imported.settings))


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("axolotl", "optimizer: paged_adamw_32bit\nearly_stopping_patience:\nstreaming: false\n"),
        ("axolotl", "early_stopping_patience: 0\ndatasets: [{path: a, type: chat_template}]\n"),
        ("axolotl", "plugins: [axolotl.integrations.liger.LigerPlugin]\nliger_rope: true\nfused_attn_kernel: true\n"),
        ("ms-swift", "torch_dtype: float32\nfp16: false\nbf16: false\n"),
        (
            "ms-swift",
            "quant_bits: 4\ntorch_dtype: bfloat16\nbnb_4bit_compute_dtype: bfloat16\nuse_liger_kernel: true\n",
        ),
        ("llamafactory", "bf16: true\nenable_liger_kernel: true\nuse_unsloth: true\n"),
    ],
)
def test_what_gives_the_same_results_is_not_told_as_a_difference(tool: str, text: str) -> None:
    found = parsed(tool, text)
    imported = settings_of(found, TEXT_FAMILY.towers(TEXT_CONFIG), TEXT_CONFIG, 600)
    assert differences(found, imported.settings) == []


@pytest.mark.parametrize(
    ("tool", "text", "expected"),
    [
        ("ms-swift", "learning_rate: 1e-4\n", {"learning_rate": 1e-4, "adam_beta2": 0.95}),
        ("axolotl", "weight_decay: 1E-2\n", {"weight_decay": 0.01, "adam_beta2": 0.999}),
        ("llamafactory", "max_steps: 1e3\nadam_beta2: 0.98\n", {"steps": 1000, "adam_beta2": 0.98}),
        ("llamafactory", "", {"compute_dtype": "auto"}),  # of the weights
        ("axolotl", "evals_per_epoch: 0\n", {"eval_every_steps": 150}),  # off: four evals of 600 steps
        # axolotl rounds up rows x epochs / rows a step, and a share of the run for its evals
        ("axolotl", "num_epochs: 4\nmicro_batch_size: 7\nevals_per_epoch: 4\n", {"steps": 343, "eval_every_steps": 22}),
        ("axolotl", "max_steps: 500\nevals_per_epoch: 4\n", {"eval_every_steps": 125}),
        ("llamafactory", "num_train_epochs: 4\nper_device_train_batch_size: 7\n", {"steps": 344}),
        ("axolotl", "eval_strategy: no\n", {"eval_every_steps": 150}),  # false to YAML
        ("axolotl", "unheard_of:\nnor_this: []\n", {"rank": 8}),
    ],
)  # fmt: skip
def test_values_are_those_of_the_tool(tool: str, text: str, expected: dict[str, Any]) -> None:
    found = values_of(tool, text)
    assert {key: found[key] for key in expected} == expected


# ------------------------------------------------------------------------------------- what the base says
def test_remote_code_is_refused_only_for_a_base_that_brings_some() -> None:
    for tool in HEADS:
        found = parsed(tool, "trust_remote_code: true\n")
        check_remote_code(found, {"model_type": "qwen2"})
        with pytest.raises(UserError, match="`trust_remote_code` must be off for a base that brings its own code"):
            check_remote_code(found, {"model_type": "qwen2", "auto_map": {"AutoModelForCausalLM": "m.Own"}})
    check_remote_code(parsed("axolotl", "trust_remote_code: false\n"), {"auto_map": {"AutoModel": "m.Own"}})


@pytest.mark.parametrize("own", ['{"eos_token": "</s>"}', '{"eos_token": {"content": "</s>"}}'])
def test_special_tokens_are_compared_with_the_bases_own(tmp_path: Path, own: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(own)
    check_special_tokens(
        parsed("axolotl", "special_tokens: {eos_token: </s>, pad_token: any, unk_token: }\n"), tmp_path
    )
    for tokens, named in (("{eos_token: <|im_end|>}", "`</s>`, but got `<|im_end|>`"), ("{bos_token: <s>}", "`none`")):
        with pytest.raises(UserError) as caught:
            check_special_tokens(parsed("axolotl", f"special_tokens: {tokens}\n"), tmp_path)
        assert named in caught.value.message and caught.value.message.startswith("c.yaml:7: `special_tokens.")


# ------------------------------------------------------------------------------------- a whole file
@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    files = datasets.write(tmp_path_factory.mktemp("rows") / "data", 0)
    return {"train": files.train, "validation": files.validation, "ood": files.ood}


def read(directory: Path, rows: dict[str, Path], tool: str, text: str, name: str = "c.yaml") -> ImportedTrial:
    (directory / name).write_text(text if name.endswith("json") else HEADS[tool] + text)
    launch = Launch(base=str(BASE_DIRECTORY), train=rows["train"], validation=rows["validation"], ood=rows["ood"])
    return read_config(directory / name, "", launch, directory / "data", {}, Begun())


@pytest.mark.parametrize(("tool", "key"), [("ms-swift", "system"), ("llamafactory", "default_system")])
def test_a_system_text_becomes_a_turn_of_rows_that_have_none(
    tmp_path: Path, rows: dict[str, Path], tool: str, key: str
) -> None:
    own = tmp_path / "own.jsonl"
    first = {"messages": [{"role": "system", "content": "Own."}, {"role": "user", "content": "a"},
                          {"role": "assistant", "content": "b"}]}  # fmt: skip
    own.write_text(json.dumps(first) + "\n" + json.dumps({"prompt": "c", "response": "d"}) + "\n")
    found = read(tmp_path, {**rows, "train": own}, tool, f"{key}: Be brief.\n")
    turns = [(row.messages[0].role, row.messages[0].text) for row in read_rows(found.sources.train.path)]
    assert turns == [("system", "Own."), ("system", "Be brief.")]
    assert all(row.messages[0].text == "Be brief." for row in read_rows(found.sources.validation.path))
    assert found.sources.ood.path == rows["ood"].resolve()
    assert read(tmp_path, rows, tool, "").sources.train.path == rows["train"].resolve()


def test_a_configuration_in_json_is_read_and_a_record_stays_a_record(tmp_path: Path, rows: dict[str, Path]) -> None:
    text = '{\n\t"model": "b",\n\t"tuner_type": "lora",\n\t"learning_rate": 1e-4, "lora_rank": 16\n}'
    found = read(tmp_path, rows, "ms-swift", text, "swift.json")
    assert (found.settings["rank"], found.settings["learning_rate"]) == (16, 1e-4)
    for name, content, message in (
        ("comma.json", '{"model": "b",}', "comma.json:1: must be JSON"),
        ("twice.json", '{"model": "b",\n"model": "c"}', "twice.json:2: `model` must occur once"),
        ("nan.json", '{"model": "b", "learning_rate": NaN}', "numbers must be finite"),
        ("list.json", "[1]", "must be `key: value` lines"),
    ):
        (tmp_path / name).write_text(content)
        assert own_spec(tmp_path / name, "") is None
        with pytest.raises(UserError) as caught:
            read_document(tmp_path / name)
        assert message in caught.value.message
    (tmp_path / "spec.json").write_text('{"name": "x"}')
    with pytest.raises(UserError, match=r"spec.json: `base`"):
        own_spec(tmp_path / "spec.json", "")
    assert own_spec(tmp_path / "spec.json", "ms-swift") is None


def test_llamafactorys_v1_format_is_named() -> None:
    for text in ("model: b\npeft_config: {name: lora, r: 16}\n", "model: b\ntrain_dataset: d.yaml\n"):
        with pytest.raises(UserError, match="is a key of LLaMA-Factory's v1 format, which is not read") as caught:
            tool_of(parse_yaml(text, Path("c.yaml")))
        assert "model_name_or_path" in str(caught.value.hint)


def test_a_part_of_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from sweeps.importers.files import rows_of

    document = parse_yaml("model: b\ndataset: a.jsonl#500\nval_dataset: b.jsonl\n", tmp_path / "c.yaml")
    with pytest.raises(UserError, match=r"must name a whole file, but `a.jsonl#500` takes rows of") as caught:
        rows_of(parse_config(document, tool_of(document)), "train")
    assert "--train" in str(caught.value.hint)


# ------------------------------------------------------------------------------------- modules, packing, families
def test_llamafactory_takes_the_deepstack_mergers_of_a_thawed_tower() -> None:
    from sweeps.importers.llamafactory_modules import NAME_PARTS, adapted_modules
    from trainables.mini import BASE_DIRECTORY as SEEING

    family, config = family_of(SEEING)
    inside = [one.name for tower in family.towers(config).values() for block in tower for one in block]
    names = [*inside, *family.outside(config), "lm_head"]
    parts = NAME_PARTS["qwen3_vl"]
    thawed = adapted_modules(parts, names, None, ())
    assert len(thawed) == 110  # what LLaMA-Factory prints for this base
    assert thawed - set(inside) == {f"model.visual.deepstack_merger_list.{level}.linear_fc{one}"
                                    for level in range(3) for one in (1, 2)}  # fmt: skip
    assert adapted_modules(parts, names, None, ("vision",)) == {one for one in inside if "language_model" in one}
    # parts of names: `proj` is in q_proj, up_proj and so on
    assert adapted_modules(parts, names, ["proj"], ("vision",)) == adapted_modules(parts, names, None, ("vision",))
    document = parse_yaml("model_name_or_path: b\nlora_target: all\nfreeze_vision_tower: false\n", Path("c.yaml"))
    with pytest.raises(UserError, match=r"model.visual.deepstack_merger_list.0.linear_fc1 and 5 more"):
        settings_of(parse_config(document, tool_of(document), OPTIONS), family.towers(config), config, 100)
    document = parse_yaml("model_name_or_path: b\nlora_target: mlp\n", Path("c.yaml"))
    with pytest.raises(UserError, match=r"`mlp` is also a part of the name of model.language_model.layers.0.mlp"):
        settings_of(parse_config(document, tool_of(document), OPTIONS), family.towers(config), config, 100)


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("ms-swift", "target_modules: [all-linear, embed_tokens, lm_head]\n"),
        ("axolotl", "lora_target_modules: [embed_tokens]\n"),
        ("ms-swift", "target_modules: [q_proj, embed_tokens]\n"),
    ],
)
def test_embeddings_and_head_are_never_left_out_in_silence(tool: str, text: str) -> None:
    with pytest.raises(UserError, match="never adapted here"):
        values_of(tool, text)


def test_packed_steps_are_told_with_numbers() -> None:
    text = (
        "sample_packing: true\nsequence_len: 4096\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nnum_epochs: 4\n"
    )
    found = parsed("axolotl", text)
    imported = settings_of(found, TEXT_FAMILY.towers(TEXT_CONFIG), TEXT_CONFIG, 600)
    packed = packed_steps(found, imported)
    assert packed == PackedSteps("axolotl", sequences=8, sequence_tokens=4096, steps=None, epochs=4.0)
    train = file_quality([ScannedRow(str(row), str(row), "a", tokens=36, supervised_tokens=2) for row in range(600)])
    source = Source(path=Path("/x"), sha256="x")
    spec = TrialSpec(name="x", base=source, train=source, validation=source, ood=source,
                     placement=Placement(language=1), **imported.as_values())  # type: ignore[call-arg] # fmt: skip
    told = packing_finding(packed, train, spec)
    assert (
        "at 36 tokens a row, a step of 8 sequences of 4,096 tokens holds about 910 rows there, and 8 here"
        in told.message
    )
    assert "about 4 steps there, and 300 here" in told.message and "max_steps: 4" in told.hint
    assert packed_steps(parsed("axolotl", ""), imported) is None


def test_the_hint_on_an_unknown_family_lists_the_known_ones_and_suggests_none(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    for unknown in ("gemma3n", "gpt_oss", "qwen2_5_omni", "Qwen2"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": unknown}))
        with pytest.raises(UserError) as caught:
            family_of(tmp_path)
        hint = str(caught.value.hint)
        assert "did you mean" not in hint and all(name in hint for name in FAMILIES)

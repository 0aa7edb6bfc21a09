"""Tests shapes from config.json against transformers' classes, and placements against regular expressions."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker
from tiny_families import LAYERS, TINY, tiny_config

from trainables.errors import UserError
from trainables.model.families import FAMILIES, LinearShape, family_of
from trainables.model.families.qwen3_vl import qwen3_vl_towers
from trainables.model.families.text import decoder_towers
from trainables.model.placement import resolve
from trainables.spec import Placement

# Qwen/Qwen3-VL-4B-Instruct, its vocabulary aside: https://huggingface.co/Qwen/Qwen3-VL-4B-Instruct/blob/main/config.json
REAL_TEXT = {
    "vocab_size": 512,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
REAL_VISION = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "out_hidden_size": 2560,
    "deepstack_visual_indexes": [5, 11, 17],
}
LANGUAGE_34_35 = (
    r"language_model.layers.(34|35).(self_attn.(q_proj|k_proj|v_proj|o_proj)|mlp.(gate_proj|up_proj|down_proj))"
)
VISION_22_23 = r"visual.blocks.(22|23).(attn.(qkv|proj)|mlp.(linear_fc1|linear_fc2))"
BLOCKS = re.compile(r"model\.(language_model\.layers|visual\.blocks)\.\d+\.")


def config_of(shape: str, base: Path) -> Any:
    from transformers import AutoConfig, Qwen3VLConfig

    if shape == "miniature":
        return AutoConfig.from_pretrained(base)
    return Qwen3VLConfig(text_config=REAL_TEXT, vision_config=REAL_VISION, tie_word_embeddings=True)


@cache
def meta_model(shape: str, base: Path) -> Any:
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    with torch.device("meta"):
        return Qwen3VLForConditionalGeneration(config_of(shape, base))


def linears(model: Any) -> dict[str, tuple[int, int]]:
    import torch

    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


@pytest.mark.parametrize("shape", ["miniature", "4B"])
def test_shapes_are_those_of_the_instantiated_model(shape: str, make_spec: SpecMaker) -> None:
    base = make_spec().base.path
    towers = qwen3_vl_towers(config_of(shape, base).to_dict())
    found = linears(meta_model(shape, base))
    output = [linear for blocks in towers.values() for block in blocks for linear in block]
    assert {one.name: (one.inputs, one.outputs) for one in output} == {
        k: v for k, v in found.items() if BLOCKS.match(k)
    }
    assert len({one.name for one in output}) == len(output)
    rest = set(found) - {one.name for one in output}
    assert rest and all("merger" in name or name == "lm_head" for name in rest)
    for blocks in towers.values():
        indices = [int(re.findall(r"\.(\d+)\.", block[0].name)[0]) for block in blocks]
        assert indices == list(range(len(blocks)))  # first to last


def test_the_files_own_config_says_the_same_as_transformers(make_spec: SpecMaker) -> None:
    base = make_spec().base.path
    family, config = family_of(base)
    assert family.towers(config) == qwen3_vl_towers(config_of("miniature", base).to_dict())


@pytest.mark.parametrize("head_dim", [{}, {"head_dim": None}])
def test_without_a_head_width_the_heads_share_the_hidden_width(head_dim: dict) -> None:
    text = {key: value for key, value in REAL_TEXT.items() if key != "head_dim"} | head_dim
    towers = qwen3_vl_towers({"text_config": text, "vision_config": REAL_VISION})
    prefix = "model.language_model.layers.0.self_attn"
    assert towers["language"][0][0] == LinearShape(f"{prefix}.q_proj", 2560, 2560)
    assert towers["language"][0][1] == LinearShape(f"{prefix}.k_proj", 2560, 2560 // 4)


ARMS = {
    "A1": (2, 0), "A2": (4, 0), "B1": (0, 2), "B2": (0, 4), "B3": (0, 6), "C1": (2, 2), "C2": (2, 4), "C3": (2, 6),
    "D1": (4, 2), "D2": (4, 4), "D3": (4, 6),
}  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_expressions_for_the_last_layers_name_the_same_modules(arm: str, make_spec: SpecMaker) -> None:
    """Expressions as one writes them for other tools, searched in the names of the 4B model."""
    language, vision = ARMS[arm]
    layers = "|".join(str(index) for index in range(36 - language, 36))
    blocks = "|".join(str(index) for index in range(24 - vision, 24))
    expressions = [LANGUAGE_34_35.replace("34|35", layers)] * bool(language)
    expressions += [VISION_22_23.replace("22|23", blocks)] * bool(vision)
    base = make_spec().base.path
    meant = [name for name in linears(meta_model("4B", base)) if any(re.search(one, name) for one in expressions)]
    resolved = resolve(Placement(language=language, vision=vision), qwen3_vl_towers(config_of("4B", base).to_dict()))
    assert sorted(resolved.module_names) == sorted(meant)
    assert len(resolved.linears["language"]) == 7 * language
    assert len(resolved.linears["vision"]) == 4 * vision


@pytest.mark.parametrize("shape", ["miniature", "4B"])
@pytest.mark.parametrize("rank", [8, 16])
def test_parameters_are_those_that_peft_makes(shape: str, rank: int, make_spec: SpecMaker) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3VLForConditionalGeneration

    config = config_of(shape, make_spec().base.path)
    resolved = resolve(Placement(language=2, vision=4), qwen3_vl_towers(config.to_dict()))
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
        peft_model = get_peft_model(model, LoraConfig(r=rank, target_modules=list(resolved.module_names)))
    trainable, _ = peft_model.get_nb_trainable_parameters()
    assert resolved.total_parameters(rank) == trainable
    language = [p.numel() for name, p in peft_model.named_parameters() if "language_model" in name and p.requires_grad]
    assert resolved.parameters("language", rank) == sum(language)
    assert resolved.adapter_megabytes(rank) == pytest.approx(trainable * 4 / 1e6)


@pytest.mark.parametrize("family", TINY)
def test_the_names_and_shapes_of_a_text_decoder_are_those_of_its_own_class(family: str) -> None:
    import torch
    import transformers

    config = tiny_config(family)
    with torch.device("meta"):
        model = getattr(transformers, FAMILIES[family].model_class)(config)
    assert not FAMILIES[family].sees
    towers = FAMILIES[family].towers(config.to_dict())
    linears = [linear for block in towers["language"] for linear in block]
    layers = f"{FAMILIES[family].decoder}.layers."
    blocks = {name: module for name, module in model.named_modules() if name.startswith(layers)}
    assert {one.name: (one.inputs, one.outputs) for one in linears} == {
        name: (module.in_features, module.out_features)
        for name, module in blocks.items()
        if isinstance(module, torch.nn.Linear)
    }
    assert (len(towers["language"]), towers["vision"]) == (LAYERS, ())


def test_a_config_without_grouped_keys_has_a_key_for_every_head() -> None:
    """Llama 1 wrote no `num_key_value_heads`, Llama 3 no `head_dim`."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}
    [block] = decoder_towers({**shape, "head_dim": None})["language"]
    assert {linear.outputs for linear in block if ".self_attn." in linear.name} == {64}


@pytest.fixture
def base(tmp_path: Path, make_spec: SpecMaker) -> Path:
    shutil.copy(make_spec().base.path / "config.json", tmp_path)
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def refused(base: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        family_of(base)
    return caught.value


def test_a_base_without_config(base: Path) -> None:
    (base / "config.json").unlink()
    assert f"but {base} has no config.json" in refused(base).message


def test_a_base_without_safetensors(base: Path) -> None:
    (base / "model.safetensors").rename(base / "model.bin")
    error = refused(base)
    assert f"weights as *.safetensors, but {base} has none" in error.message
    assert "can run code" in (error.hint or "")


def test_an_unknown_family_lists_the_known(base: Path) -> None:
    (base / "config.json").write_text(json.dumps({"model_type": "qwen3_v"}))
    error = refused(base)
    assert "`model_type` must be a known family, but got `qwen3_v`" in error.message
    assert error.hint == f"the known families are {', '.join(FAMILIES)}"


@pytest.mark.parametrize(
    ("config", "got"),
    [
        ({}, "but there is none"),
        ({"model_type": None}, "but got `None`"),
        ({"model_type": ["llama"]}, "but got `\\['llama'\\]`"),
        ({"model_type": "llama\x1b[2J"}, "but got `llama.x1b"),
        # the decoder's own name is not that of the model which is stored
        ({"model_type": "voxtral", "text_config": {"model_type": "llama"}}, "but got `voxtral`"),
        ({"architectures": ["LlamaForCausalLM"]}, "but there is none"),
    ],
)
def test_a_family_that_is_not_named_is_refused(config: dict[str, Any], got: str, base: Path) -> None:
    (base / "config.json").write_text(json.dumps(config))
    error = refused(base)
    assert re.search(rf"config.json: `model_type` must be a known family, {got}", error.message)
    assert error.hint == f"the known families are {', '.join(FAMILIES)}"


def test_a_known_model_with_another_decoder_is_refused_by_its_name(base: Path) -> None:
    config = {"model_type": "mistral3", "text_config": {"model_type": "mistral4"}}
    (base / "config.json").write_text(json.dumps(config))
    error = refused(base)
    expected = "`text_config.model_type` of a mistral3 must be one of mistral, ministral3, but got `mistral4`"
    assert expected in error.message
    assert "no other decoder of a mistral3" in (error.hint or "")
    for decoder in ("mistral", "ministral3", None):  # transformers' own default is mistral
        config["text_config"] = {"model_type": decoder}
        (base / "config.json").write_text(json.dumps(config))
        assert family_of(base)[0] is FAMILIES["mistral3"]


def test_a_config_that_is_not_json_is_refused(base: Path) -> None:
    (base / "config.json").write_text("{")
    assert f"{base}/config.json" in refused(base).message

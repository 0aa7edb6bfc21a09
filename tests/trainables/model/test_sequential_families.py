"""Tests families whose trials train one after another against transformers' own processors and classes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
import transformers
from sequential_rows import ours, rows_of, theirs
from small_trials import Sources
from tiny_sequential import (
    BLOCKS,
    LAYERS,
    PLACED_BLOCKS,
    SEEING,
    TINY_SEQUENTIAL,
    reference_processor,
    sequential_config,
    write_sequential_base,
)
from torch.nn.functional import cross_entropy

from trainables.data.scan import load_encoder
from trainables.errors import UserError
from trainables.evaluation.evaluator import label_logits
from trainables.model.base import load_base
from trainables.model.families import FAMILIES
from trainables.model.lora import place
from trainables.model.module_kinds import PARTS, own_name
from trainables.model.placement import resolve
from trainables.model.stored_base import read_base
from trainables.spec import Placement

EACH = pytest.mark.parametrize("family", TINY_SEQUENTIAL)
EACH_SEEING = pytest.mark.parametrize("family", SEEING)
EXACT = 1e-5
PADDED = 1e-4  # rows of other lengths beside them are rounded otherwise
SourcesOf = Callable[[str], Sources]


def written(config: Any) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=True))


def network(family: str, config: Any) -> Any:
    with torch.device("meta"):
        return getattr(transformers, FAMILIES[family].model_class)(config)


# -------------------------------------------------------------------- which linears and weights
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "gemma3": ({}, {"vision_config": {"vision_use_head": True}}, {"text_config": {"attention_bias": True}}),
    "gemma4": (
        {},
        {"audio_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "output_proj_dims": 40}},
        {"text_config": {"num_kv_shared_layers": 0, "attention_bias": True, "hidden_size_per_layer_input": 0}},
        {"text_config": {"attention_k_eq_v": True, "use_double_wide_mlp": False}},
        {"vision_config": {"standardize": True, "use_clipped_linears": False}},
    ),
    "gemma4_text": ({}, {"num_kv_shared_layers": 0, "attention_bias": True}, {"hidden_size_per_layer_input": 0}),
    "smolvlm": ({}, {"text_config": {"mlp_bias": True}, "scale_factor": 3}),
    "idefics3": ({}, {"vision_config": {"num_channels": 1}}),
    "internvl": (
        {},
        {"vision_config": {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": True}},
        {"vision_config": {"use_mean_pooling": False, "use_mask_token": True}, "downsample_ratio": 0.25},
        {"vision_config": {"use_absolute_position_embeddings": False}, "text_config": {"model_type": "qwen3"}},
        {"text_config": {"model_type": "llama", "mlp_bias": True}},
    ),
    "qwen3_5": ({}, {"text_config": {"attention_bias": True}}, {"text_config": {"linear_num_key_heads": 4}}),
    "qwen3_5_text": ({}, {"linear_conv_kernel_dim": 3}, {"tie_word_embeddings": True}),
}


def varied(family: str, changes: dict[str, Any]) -> Any:
    values = sequential_config(family).to_dict()
    for key, value in changes.items():
        values[key] = {**(values[key] or {}), **value} if isinstance(value, dict) else value
    return transformers.AutoConfig.for_model(**values)


def assert_known(family: str, config: Any) -> None:
    """Weights, linears and tying are those of the class in transformers."""
    model, values, known = network(family, config), written(config), FAMILIES[family]
    assert known.weights(values) == {name: tuple(one.shape) for name, one in model.state_dict().items()}
    assert known.is_tied(values) is ("lm_head.weight" in model.all_tied_weights_keys)
    kinds = torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d
    layers = {name for name, one in model.named_modules() if isinstance(one, kinds)}
    inside = [one.name for blocks in known.towers(values).values() for block in blocks for one in block]
    assert len(set(inside)) == len(inside)
    assert layers - set(inside) == {*known.outside(values), "lm_head"}
    assert {own_name(name) for name in inside} <= PARTS.keys()


@pytest.mark.parametrize(("family", "changes"), [(name, one) for name, many in VARIANTS.items() for one in many])
def test_weights_and_linears_are_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    config = varied(family, changes)
    assert_known(family, config)
    towers = FAMILIES[family].towers(written(config))
    assert (len(towers["language"]), len(towers["vision"])) == (LAYERS, PLACED_BLOCKS[family])


@EACH
def test_a_configuration_without_values_has_those_of_the_class(family: str) -> None:
    more = {"vision_config": {}} if family == "gemma4" else {}  # which is optional in the class
    assert_known(family, transformers.AutoConfig.for_model(family, **more))


@EACH
@pytest.mark.parametrize("tied", [True, False])
def test_whether_a_family_is_tied_is_read_as_transformers_reads_it(family: str, tied: bool) -> None:
    assert_known(family, varied(family, {"tie_word_embeddings": tied}))


@EACH
def test_peft_wraps_exactly_the_modules_of_a_placement(family: str, sequential_sources_of: SourcesOf) -> None:
    from peft.tuners.lora import LoraLayer

    base = packed.plain_engine(sequential_sources_of(family)).base
    for language, vision in ((1, 0), (LAYERS, BLOCKS), (0, 2)) if PLACED_BLOCKS[family] else ((1, 0), (3, 0)):
        spec = sequential_sources_of(family).spec(placement=Placement(language=language, vision=vision))
        resolved = resolve(spec.placement, base.towers)
        adapter = place(base, spec, resolved)
        wrapped = {name for name, one in base.model.named_modules() if isinstance(one, LoraLayer)}
        adapter.remove()
        assert wrapped == set(resolved.module_names) != set()
        layers = {
            (tower, re.findall(r"\.(\d+)\.", linear.name)[0])
            for tower, linears in resolved.linears.items()
            for linear in linears
        }
        assert layers == {*(("language", str(LAYERS - 1 - n)) for n in range(language)),
                          *(("vision", str(BLOCKS - 1 - n)) for n in range(vision))}  # fmt: skip


def test_most_layers_of_qwen3_5_have_no_queries_of_their_own() -> None:
    [linear, full, *_] = FAMILIES["qwen3_5_text"].towers(written(sequential_config("qwen3_5_text")))["language"]
    assert [one.name.rsplit(".", 1)[1] for one in linear[:5]] == [
        "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"]  # fmt: skip
    assert full[0].outputs == 2 * full[3].inputs  # queries, and the gate of the output


def test_lora_in_the_tower_of_gemma4_is_within_what_clips(sequential_sources_of: SourcesOf, tmp_path: Path) -> None:
    """PEFT cannot adapt the module that clips; on the linear within, all of it is trained, saved, loaded and merged."""
    import peft

    engine = packed.plain_engine(sequential_sources_of("gemma4"))
    with pytest.raises(ValueError, match=r"Gemma4ClippableLinear[\s\S]* is not supported"):
        wrappers = r".*vision_tower.*\.q_proj"
        peft.get_peft_model(network("gemma4", sequential_config("gemma4")), peft.LoraConfig(target_modules=wrappers))
    spec = sequential_sources_of("gemma4").spec(placement=Placement(vision=2, modules="mlp"), dropout=0.0)
    resolved = resolve(spec.placement, engine.base.towers)
    assert {own_name(name) for name in resolved.module_names} == {"gate_proj", "up_proj", "down_proj"}
    assert all(name.endswith("_proj.linear") for name in resolved.module_names)
    [row, *_] = rows_of(engine)
    batch = ours(engine, [row])
    adapter = place(engine.base, spec, resolved)
    assert adapter.peft_model.get_nb_trainable_parameters()[0] == resolved.total_parameters(spec.rank)
    logits, targets = label_logits(engine.base, batch)
    cross_entropy(logits, targets).backward()
    assert all(bool(one.grad.any()) for name, one in adapter.trained() if "lora_B" in name and one.grad is not None)
    assert all(one.grad is not None for _, one in adapter.trained())
    with torch.no_grad():
        for _, one in adapter.trained():
            one.normal_(std=0.2)
        tuned, _ = label_logits(engine.base, batch)
    adapter.save(tmp_path)
    adapter.remove()
    fresh = load_base(engine.base.path, "none", "float32", torch.device("cpu"))
    merged: Any = peft.PeftModel.from_pretrained(fresh.model, str(tmp_path))
    plain = merged.merge_and_unload()
    assert {*plain.state_dict()} == {*engine.base.model.state_dict()}
    with torch.no_grad():
        loaded, _ = label_logits(replace(fresh, model=plain), batch)
        bare, _ = label_logits(engine.base, batch)
    assert torch.allclose(loaded, tuned, atol=EXACT) and (tuned - bare).abs().max() > 100 * EXACT


# -------------------------------------------------------------------- rows become the inputs of transformers' processor
@EACH_SEEING
def test_a_row_becomes_the_inputs_that_transformers_makes_of_it(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    processor = reference_processor(family, engine.base.path)
    for row in rows_of(engine):
        batch, expected = ours(engine, [row]).inputs, theirs(processor, [row])
        assert batch["input_ids"].tolist() == expected["input_ids"].tolist(), row.row_id
        assert {*batch} - {"mm_token_type_ids", "token_type_ids"} == {*expected} - {
            "mm_token_type_ids",
            "token_type_ids",
        }
        for name in batch:
            assert torch.equal(batch[name], expected[name].to(batch[name].dtype)), (row.row_id, name)


@EACH_SEEING
def test_logits_and_loss_are_those_of_transformers(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    processor, rows = reference_processor(family, engine.base.path), rows_of(engine)
    expected = []
    with torch.no_grad():
        for row in rows:
            batch, inputs = ours(engine, [row]), theirs(processor, [row])
            logits, targets = label_logits(engine.base, batch)
            out = engine.base.model(**inputs, labels=batch.labels)
            expected.append(out.logits[:, :-1][batch.labels[:, 1:] >= 0].float())
            assert torch.allclose(logits, expected[-1], atol=EXACT)
            assert float(cross_entropy(logits, targets)) == pytest.approx(float(out.loss), abs=EXACT)
        together, _ = label_logits(engine.base, ours(engine, rows))  # padded, with pictures and without
    assert float((together - torch.cat(expected)).abs().max()) < PADDED


@EACH_SEEING
def test_another_picture_changes_the_logits(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    apart = next(row for row in rows_of(engine) if row.row_id == "apart")
    with torch.no_grad():
        one, _ = label_logits(engine.base, ours(engine, [apart]))
        other, _ = label_logits(engine.base, ours(engine, [replace(apart, images=apart.images[::-1])]))
    assert one.shape == other.shape and (one - other).abs().max() > 100 * EXACT


def test_without_the_types_of_tokens_the_logits_of_gemma3_differ(sequential_sources_of: SourcesOf) -> None:
    """The fault: the attention between the tokens of a picture is causal, and nothing reports it."""
    engine = packed.plain_engine(sequential_sources_of("gemma3"))
    processor, [row, *_] = reference_processor("gemma3", engine.base.path), rows_of(engine)
    blind = replace(engine.encoder.family, image_token_mask=None)
    batch = ours(engine, [row])
    with torch.no_grad():
        expected = engine.base.model(**theirs(processor, [row])).logits[:, :-1][batch.labels[:, 1:] >= 0]
        known = engine.encoder.family
        engine.encoder.family = blind
        try:
            faulty, _ = label_logits(engine.base, ours(engine, [row]))
        finally:
            engine.encoder.family = known
        right, _ = label_logits(engine.base, ours(engine, [row]))
    assert torch.allclose(right, expected, atol=EXACT)
    assert (faulty - expected).abs().max() > 100 * EXACT


@EACH_SEEING
def test_a_plan_counts_the_patches_that_the_tower_computes(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    row = next(row for row in rows_of(engine) if len(row.images) == 1)
    first, seen = engine.base.towers["vision"][0][0], []
    hook = engine.base.model.get_submodule(first.name).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].numel() // first.inputs)
    )
    with torch.no_grad():
        label_logits(engine.base, ours(engine, [row]))
    hook.remove()
    tokens = engine.encoder.conversation(row).tokens.count(engine.encoder.image_token_id)
    counted = FAMILIES[family].patches_per_token(engine.base.config) * tokens
    if family == "gemma4":
        assert counted <= sum(seen) == engine.encoder.image_processor.max_soft_tokens * 4, "every picture is padded"
    else:
        assert sum(seen) - counted == (family == "internvl"), "beside the patches there is a token of the class"


@EACH_SEEING
def test_the_scan_counts_the_tokens_of_training(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    scanned = load_encoder(engine.base.path)
    for row in rows_of(engine):
        assert scanned.conversation(row).tokens == engine.encoder.conversation(row).tokens


@EACH_SEEING
def test_pictures_without_a_place_in_the_text_are_refused(family: str, sequential_sources_of: SourcesOf) -> None:
    encoder, [row, *_] = (
        packed.plain_engine(sequential_sources_of(family)).encoder,
        rows_of(packed.plain_engine(sequential_sources_of(family))),
    )
    with pytest.raises(UserError, match="every image must have one image token, but got 1 image tokens for 2 images"):
        encoder.conversation(replace(row, images=row.images * 2))


# -------------------------------------------------------------------- bases as they lie in a directory
def test_keys_that_gemma4_does_not_read_may_lie_in_a_base(tmp_path: Path) -> None:
    """Published bases hold keys and values for the layers that read those of earlier layers."""
    from safetensors.torch import load_file, save_file

    base = write_sequential_base("gemma4", tmp_path)
    weights = load_file(base / "model.safetensors")
    [prefix] = {name.split("layers.")[0] for name in weights if name.endswith("layers.0.mlp.gate_proj.weight")}
    own = weights[f"{prefix}layers.1.self_attn.k_proj.weight"]
    unread = {**weights, f"{prefix}layers.3.self_attn.k_proj.weight": own.clone()}
    save_file(unread, base / "model.safetensors", {"format": "pt"})
    load_base(base, "none", "float32", torch.device("cpu"))
    foreign = {**weights, f"{prefix}layers.3.self_attn.j_proj.weight": own.clone()}
    save_file(foreign, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="j_proj"):
        read_base(base)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        (
            "gemma4",
            {"text_config": {"enable_moe_block": True}},
            "must be dense, but config.json sets",
        ),
        ("gemma4", {"vision_config": None}, "must have a vision tower"),
        ("internvl", {"text_config": {"model_type": "gpt_oss"}}, "one of qwen2, qwen3, llama .*, but got .gpt_oss"),
    ],
)
def test_members_of_a_family_that_are_not_known_are_refused_by_name(
    family: str, changes: dict[str, Any], reason: str, sequential_sources_of: SourcesOf, tmp_path: Path
) -> None:
    base = shutil.copytree(sequential_sources_of(family).base.path, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if value else value
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=reason):
        read_base(base)

"""Tests families with a vision tower against their classes in transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import ANYTHING_GOES, Sources, opened, whole_run
from tiny_families import (
    BLOCKS,
    LAYERS,
    PATCH_PIXELS,
    TINY_VISION,
    tiny_vision_config,
    vision_arms,
)
from torch.nn.functional import cross_entropy

from trainables.checkpoints.verification import verify
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.model import families as model_families
from trainables.model.families import FAMILIES, Family
from trainables.model.lora import place
from trainables.model.placement import resolve
from trainables.record import Record
from trainables.selftest.run import SelfTest

EACH_FAMILY = pytest.mark.parametrize("family", TINY_VISION)
WITHOUT_DEEPSTACK = pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen2_vl"])
SourcesOf = Callable[[str], Sources]


# -------------------------------------------------------------------- which linears
def network(config: Any, family: Family) -> Any:
    import transformers

    with torch.device("meta"):
        return getattr(transformers, family.model_class)(config)


def assert_all_layers_are_known(network: Any, config: dict[str, Any], family: Family) -> None:
    towers = family.towers(config)
    linears = [linear for blocks in towers.values() for block in blocks for linear in block]
    layers = {name: one for name, one in network.named_modules() if isinstance(one, torch.nn.Linear | torch.nn.Conv3d)}
    inside = {one.name: (one.inputs, one.outputs) for one in linears}
    assert inside == {name: (layers[name].in_features, layers[name].out_features) for name in inside}
    assert len(inside) == len(linears)
    assert set(layers) - set(inside) == {*family.outside(config), "lm_head"}


@EACH_FAMILY
def test_every_layer_of_the_model_is_in_a_block_or_outside(family: str) -> None:
    config = tiny_vision_config(family)
    assert_all_layers_are_known(network(config, FAMILIES[family]), config.to_dict(), FAMILIES[family])
    towers = FAMILIES[family].towers(config.to_dict())
    assert (len(towers["language"]), len(towers["vision"])) == (LAYERS, BLOCKS)


# Their vocabulary aside, and the values of the decoder at the top as published:
# https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct/blob/main/config.json
# https://huggingface.co/Qwen/Qwen2-VL-7B-Instruct/blob/main/config.json
DECODER_7B = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
              "num_key_value_heads": 4, "vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2,
              "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}  # fmt: skip
PUBLISHED = {
    "qwen2_5_vl": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
                   "out_hidden_size": 3584, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
    "qwen2_vl": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "hidden_size": 3584,
                 "patch_size": 14},
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_configuration_names_the_linears_of_its_model(family: str) -> None:
    from transformers import AutoConfig

    published = {**DECODER_7B, "vision_config": PUBLISHED[family]}
    config = AutoConfig.for_model(family, **{**published, "vision_config": dict(PUBLISHED[family])})
    assert_all_layers_are_known(network(config, FAMILIES[family]), published, FAMILIES[family])


@EACH_FAMILY
def test_peft_wraps_exactly_the_modules_of_a_placement(family: str, vision_sources_of: SourcesOf) -> None:
    from peft.tuners.lora import LoraLayer

    base = packed.plain_engine(vision_sources_of(family)).base
    for spec in vision_arms(vision_sources_of(family)):
        resolved = resolve(spec.placement, base.towers)
        adapter = place(base, spec, resolved)
        wrapped = {name for name, one in base.model.named_modules() if isinstance(one, LoraLayer)}
        adapter.remove()
        language, vision = spec.placement.language, spec.placement.vision
        last = tuple(f"model.language_model.layers.{LAYERS - 1 - n}." for n in range(language))
        last += tuple(f"model.visual.blocks.{BLOCKS - 1 - n}." for n in range(vision))
        assert wrapped == set(resolved.module_names)
        per_block = len(base.towers["vision"][0])
        assert len(wrapped) == 7 * language + per_block * vision
        assert all(name.startswith(last) for name in wrapped)


# -------------------------------------------------------------------- rows become tokens
@EACH_FAMILY
def test_a_row_becomes_the_tokens_of_its_template_and_pictures(family: str, vision_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(vision_sources_of(family))
    encoder, merged = engine.encoder, engine.encoder.image_processor.merge_size * PATCH_PIXELS
    seen = set()
    for index in range(6):
        row = engine.train[index]
        encoded = encoder.conversation(row)
        parts: list[dict[str, Any]] = [
            {"role": one.role, "content": one.text.replace("<image>", "")} for one in row.messages
        ]
        for turn, one in zip(parts, row.messages, strict=True):
            if "<image>" in one.text:
                turn["content"] = [{"type": "image"}, {"type": "text", "text": turn["content"]}]
        theirs = encoder.tokenizer.apply_chat_template(parts, tokenize=True, return_dict=False)
        [size] = {_size(path) for path in row.images}
        seen.add(size)
        count = round(size[0] / merged) * round(size[1] / merged)
        at = theirs.index(encoder.image_token_id)
        assert encoded.tokens == theirs[:at] + [encoder.image_token_id] * count + theirs[at + 1 :]
    assert len(seen) >= 3


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


@EACH_FAMILY
def test_the_loss_equals_the_models_own(family: str, vision_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(vision_sources_of(family))
    for batch in packed.batches(engine).values():
        with torch.no_grad():
            logits, targets = label_logits(engine.base, batch)
            theirs = engine.base.model(**batch.inputs, labels=batch.labels).loss
        assert float(cross_entropy(logits, targets)) == pytest.approx(float(theirs), abs=1e-5)


# -------------------------------------------------------------------- whole trials
@WITHOUT_DEEPSTACK
def test_a_trial_is_tested_saved_and_verified(family: str, vision_sources_of: SourcesOf, tmp_path: Path) -> None:
    import transformers
    from peft import PeftModel

    sources = vision_sources_of(family)
    engine = packed.plain_engine(sources)
    baseline = packed.short_baseline(packed.plain_engine, sources)
    [spec] = vision_arms(sources, [(2, 2)], learning_rate=2e-2, vision_learning_rate=2e-2)
    batch = packed.batches(engine)["mixed"]
    with opened(engine, spec, tmp_path / "trial", baseline, constraint=ANYTHING_GOES) as trial:
        trial.selftest = SelfTest(engine)
        while trial.advance(lambda: False) is None:
            pass
        with torch.no_grad():
            live, _ = label_logits(engine.base, batch)
    record = Record(tmp_path / "trial")
    assert str(record.verdict()) == "completed", record.verdict()
    checkpoint = record.checkpoint(spec.steps)
    assert verify(checkpoint).passed, verify(checkpoint)
    fresh = getattr(transformers, FAMILIES[family].model_class).from_pretrained(sources.base.path)
    plain: Any = PeftModel.from_pretrained(fresh, str(checkpoint)).get_base_model()
    with torch.no_grad():
        theirs, _ = label_logits(replace(engine.base, model=plain), batch)
        bare, _ = label_logits(engine.base, batch)
    assert torch.allclose(live, theirs, atol=1e-5)
    assert (live - bare).abs().max() > 1e-2


@pytest.mark.parametrize("quantization", ["nf4-double", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_quantized_base_trains(quantization: str, vision_sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = vision_sources_of("qwen2_5_vl")
    [spec] = vision_arms(sources, [(1, 1)], quantization=quantization)
    engine = Engine.load(spec, torch.device("cpu"))
    packed.shorten_evals(engine)
    baseline = packed.short_baseline(packed.plain_engine, sources)
    record = whole_run(engine, spec, tmp_path / "trial", baseline, constraint=ANYTHING_GOES)
    assert str(record.verdict()) == "completed"


# -------------------------------------------------------------------- the table
def test_every_family_has_a_tiny_model() -> None:
    from tiny_families import TINY_EXPERTS, TINY_SEEING, TINY_TEXT, TINY_VISION_EXPERTS
    from tiny_sequential import SEEING, TINY_SEQUENTIAL

    alone = {*TINY_SEQUENTIAL, *TINY_EXPERTS, *TINY_VISION_EXPERTS}
    assert set(model_families.FAMILIES) == {*TINY_TEXT, *TINY_SEEING, *TINY_SEQUENTIAL}
    assert {name for name, family in FAMILIES.items() if family.sees} == {*TINY_SEEING, *SEEING}
    assert {name for name, one in FAMILIES.items() if one.shared_forward is None} == alone

"""Qwen2-VL: all patches of an image attend to each other; no DeepStack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.model.families import qwen_vision
from trainables.model.families.decoder_weights import LayerWeights, query_key_value_bias
from trainables.model.families.family import Config, Inputs, Shapes, Towers
from trainables.model.families.qwen_vision_weights import WITH_BIAS, MergerLayers, vision_weights

if TYPE_CHECKING:
    import torch


def qwen2_vl_towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (the merger is not a block)."""
    vision = config["vision_config"]
    hidden = vision["embed_dim"]  # `hidden_size` is the width of the decoder
    feed_forward = int(hidden * vision["mlp_ratio"])
    return qwen_vision.towers(config, {"fc1": (hidden, feed_forward), "fc2": (feed_forward, hidden)}, hidden)


def qwen2_vl_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    blocks, merger = qwen2_vl_towers(config)["vision"], MergerLayers("ln_q", ("mlp.0", "mlp.2"), WITH_BIAS)
    out = config["vision_config"]["hidden_size"]
    return vision_weights(config, blocks, LayerWeights(query_key_value_bias), merger, out)


def read_images(model: Any, inputs: Inputs, groups: int) -> tuple[torch.Tensor]:
    """Return the merged features."""
    return (qwen_vision.run_tower(model, inputs, groups).pooler_output,)


QWEN2_VL = qwen_vision.vision_family("Qwen2VLForConditionalGeneration", qwen2_vl_towers, qwen2_vl_weights, read_images)

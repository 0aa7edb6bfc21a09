"""Qwen2.5-VL: most vision blocks use window attention, for which the tower reorders the patches; no DeepStack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.model.families import qwen_vision
from trainables.model.families.decoder_weights import LayerWeights, query_key_value_bias
from trainables.model.families.family import Config, Inputs, Shapes, Towers
from trainables.model.families.qwen_vision_weights import WEIGHT, MergerLayers, vision_weights

if TYPE_CHECKING:
    import torch


def qwen2_5_vl_towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (the merger is not a block)."""
    vision = config["vision_config"]
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    mlp = {"gate_proj": (hidden, feed_forward), "up_proj": (hidden, feed_forward), "down_proj": (feed_forward, hidden)}
    return qwen_vision.towers(config, mlp, hidden)


def qwen2_5_vl_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    blocks, merger = qwen2_5_vl_towers(config)["vision"], MergerLayers("ln_q", ("mlp.0", "mlp.2"), WEIGHT)
    out = config["vision_config"]["out_hidden_size"]
    return vision_weights(config, blocks, LayerWeights(query_key_value_bias), merger, out)


def read_images(model: Any, inputs: Inputs, groups: int) -> tuple[torch.Tensor]:
    """Return the merged features in the order of the image tokens.

    The tower restores the order of the features only for the groups it started with, and would drop groups that split
    off inside it. So a hook takes the output of the merger, and this function restores the order for each group.
    Windows never span images, so the order within a group is the same as for a single group.
    """
    import torch
    from transformers.vision_utils import get_vision_window_index

    tower, merged = model.model.visual, []
    handle = tower.merger.register_forward_hook(lambda _, __, output: merged.append(output))
    try:
        qwen_vision.run_tower(model, inputs, groups)
    finally:
        handle.remove()
    by_window, _ = get_vision_window_index(
        inputs["image_grid_thw"], spatial_merge_size=tower.spatial_merge_size, window_size=tower.window_size,
        patch_size=tower.patch_size,
    )  # fmt: skip
    [features] = merged
    in_order = torch.argsort(by_window).to(features.device)
    return (features.view(-1, len(in_order), features.shape[-1])[:, in_order].flatten(0, 1),)


QWEN2_5_VL = qwen_vision.vision_family(
    "Qwen2_5_VLForConditionalGeneration", qwen2_5_vl_towers, qwen2_5_vl_weights, read_images
)

"""Qwen3-VL: all patches of an image attend to each other; DeepStack adds features to the first language layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.model.families import qwen_vision
from trainables.model.families.family import Config, Inputs, Towers

if TYPE_CHECKING:
    import torch


def qwen3_vl_towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (mergers are not blocks)."""
    vision = config["vision_config"]
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    mlp = {"linear_fc1": (hidden, feed_forward), "linear_fc2": (feed_forward, hidden)}
    return qwen_vision.towers(config, mlp, hidden)


def outside(config: Config) -> tuple[str, ...]:
    """Return the linears outside the vision blocks: patch embedding, merger, and one merger per DeepStack level."""
    levels = len(config["vision_config"]["deepstack_visual_indexes"])
    mergers = ["merger", *(f"deepstack_merger_list.{index}" for index in range(levels))]
    linears = (f"model.visual.{merger}.linear_fc{one}" for merger in mergers for one in (1, 2))
    return ("model.visual.patch_embed.proj", *linears)


def read_images(model: Any, inputs: Inputs, groups: int) -> tuple[torch.Tensor, ...]:
    """Return the merged features, then the features that DeepStack adds to the first language layers."""
    out = qwen_vision.run_tower(model, inputs, groups)
    return (out.pooler_output, *out.deepstack_features)


QWEN3_VL = qwen_vision.vision_family(
    "Qwen3VLForConditionalGeneration", qwen3_vl_towers, read_images, outside, packed_position_axes=1
)

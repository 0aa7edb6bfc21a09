"""Qwen3-VL: all patches of an image attend to each other; DeepStack adds features to the first language layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainables.model.families import qwen_vision
from trainables.model.families.decoder_weights import HEAD_NORMS, LayerWeights
from trainables.model.families.family import Config, Inputs, Shapes, Towers, not_tied
from trainables.model.families.qwen_vision_weights import (
    VISUAL,
    WITH_BIAS,
    MergerLayers,
    merged_width,
    merger_weights,
    vision_weights,
)

if TYPE_CHECKING:
    import torch


def qwen3_vl_towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (mergers are not blocks)."""
    vision = config["vision_config"]
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    mlp = {"linear_fc1": (hidden, feed_forward), "linear_fc2": (feed_forward, hidden)}
    return qwen_vision.towers(config, mlp, hidden)


def qwen3_vl_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    vision, layers = config["vision_config"], MergerLayers("norm", ("linear_fc1", "linear_fc2"), WITH_BIAS)
    hidden, out = vision["hidden_size"], vision["out_hidden_size"]
    blocks = qwen3_vl_towers(config)["vision"]
    shapes = vision_weights(config, blocks, LayerWeights(head_norms=HEAD_NORMS), layers, out)
    shapes[f"{VISUAL}.patch_embed.proj.bias"] = (hidden,)
    shapes[f"{VISUAL}.pos_embed.weight"] = (vision["num_position_embeddings"], hidden)
    merged = merged_width(vision, hidden)  # the norm of these mergers follows the merge
    for index in range(len(vision["deepstack_visual_indexes"])):
        shapes |= merger_weights(f"{VISUAL}.deepstack_merger_list.{index}", layers, merged, merged, out)
    return shapes


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


def taps(model: Any) -> list[tuple[int, torch.nn.Module]]:
    """Return the vision block of each DeepStack level, and the merger that reads its output."""
    tower = model.model.visual
    return list(zip(tower.deepstack_visual_indexes, tower.deepstack_merger_list, strict=True))


QWEN3_VL = replace(
    qwen_vision.vision_family(
        "Qwen3VLForConditionalGeneration", qwen3_vl_towers, qwen3_vl_weights, read_images, outside,
        packed_position_axes=1, taps=taps,
    ),
    is_tied=not_tied,
    renamed_weights=qwen_vision.RENAMED_WEIGHTS[:3],
)  # fmt: skip

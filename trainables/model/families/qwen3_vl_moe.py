"""Qwen3-VL-MoE: the vision tower of Qwen3-VL before a mixture of experts; published experts are transposed."""

from __future__ import annotations

from dataclasses import replace

from trainables.model.families.decoder_weights import HEAD_NORMS, LayerWeights
from trainables.model.families.experts import expert_towers, expert_weights, transposed_experts
from trainables.model.families.family import Config, ExpertTowers, Shapes
from trainables.model.families.qwen3_vl import QWEN3_VL, qwen3_vl_towers, qwen3_vl_weights

DECODER = "model.language_model"


def qwen3_vl_moe_towers(config: Config) -> ExpertTowers:
    """Return the linears of attention and of the vision blocks, and the experts beside them."""
    language = expert_towers(f"{DECODER}.layers", config["text_config"], config["text_config"]["moe_intermediate_size"])
    return ExpertTowers({**language, "vision": qwen3_vl_towers(config)["vision"]}, language.experts)


def qwen3_vl_moe_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the linears of attention and of the vision blocks."""
    towers, layer = qwen3_vl_moe_towers(config), LayerWeights(head_norms=HEAD_NORMS)
    return qwen3_vl_weights(config) | expert_weights(DECODER, config["text_config"], layer, towers)


def stored_experts(config: Config) -> tuple[Shapes, ...]:
    """Return the weights of the experts as published.

    transformers transposes what has another shape than its parameter. It would leave a square one as it is stored, so
    that a base with square experts must hold them as the model does.
    """
    towers = qwen3_vl_moe_towers(config)
    is_square = any(one.inputs == one.outputs for block in towers.experts for one in block)
    return () if is_square else (transposed_experts(towers),)


QWEN3_VL_MOE = replace(
    QWEN3_VL,
    model_class="Qwen3VLMoeForConditionalGeneration",
    towers=qwen3_vl_moe_towers,
    other_weights=qwen3_vl_moe_weights,
    shared_forward=None,
    stored_experts=stored_experts,
)

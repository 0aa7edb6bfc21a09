"""Qwen3-MoE: attention of Qwen3 and a mixture of experts; published files hold every expert by itself."""

from __future__ import annotations

from trainables.model.families import text
from trainables.model.families.decoder_weights import HEAD_NORMS, LayerWeights
from trainables.model.families.experts import expert_towers, expert_weights, separate_experts
from trainables.model.families.family import Config, ExpertTowers, Family, Shapes


def qwen3_moe_towers(config: Config) -> ExpertTowers:
    """Return the linears of attention, and the experts beside them."""
    return expert_towers("model.layers", config, config["moe_intermediate_size"])


def qwen3_moe_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the linears of attention."""
    return expert_weights("model", config, LayerWeights(head_norms=HEAD_NORMS), qwen3_moe_towers(config))


def stored_experts(config: Config) -> tuple[Shapes]:
    """Return the weights of the experts as published."""
    return (separate_experts(qwen3_moe_towers(config), "gate_proj", "up_proj", "down_proj"),)


QWEN3_MOE = Family(
    "Qwen3MoeForCausalLM",
    "model",
    qwen3_moe_towers,
    qwen3_moe_weights,
    shared_forward=None,
    renamed_weights=text.RENAMED_WEIGHTS,
    stored_experts=stored_experts,
    ignored_weights=text.IGNORED_WEIGHTS,
)

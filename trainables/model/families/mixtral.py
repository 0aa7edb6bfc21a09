"""Mixtral: attention of Mistral and a mixture of experts; published files call its three matrices w1, w3 and w2."""

from __future__ import annotations

from trainables.model.families import text
from trainables.model.families.decoder_weights import LayerWeights, no_bias
from trainables.model.families.experts import expert_towers, expert_weights, separate_experts
from trainables.model.families.family import Config, ExpertTowers, Family, Shapes


def mixtral_towers(config: Config) -> ExpertTowers:
    """Return the linears of attention, and the experts beside them."""
    return expert_towers("model.layers", config, config["intermediate_size"])


def mixtral_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the linears of attention."""
    return expert_weights("model", config, LayerWeights(no_bias), mixtral_towers(config))


def stored_experts(config: Config) -> tuple[Shapes]:
    """Return the weights of the experts as published: w1 is the gate, w3 goes up, w2 goes down."""
    return (separate_experts(mixtral_towers(config), "w1", "w3", "w2"),)


MIXTRAL = Family(
    "MixtralForCausalLM",
    "model",
    mixtral_towers,
    mixtral_weights,
    shared_forward=None,
    renamed_weights=(*text.RENAMED_WEIGHTS, (r"\.block_sparse_moe\.", ".mlp.")),
    stored_experts=stored_experts,
    ignored_weights=text.IGNORED_WEIGHTS,
)

"""Phi-3 and Phi-4: decoders whose queries, keys and values are one linear, as are gate and up."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from trainables.model.families.decoder_weights import LayerWeights, no_bias
from trainables.model.families.family import Config, SharedForwardSteps, Towers
from trainables.model.families.fused import FUSED_GATE_UP, FUSED_QUERY_KEY_VALUE, fuse
from trainables.model.families.text import decoder, decoder_towers


def phi3_towers(config: Config) -> Towers:
    """Return the linears of the decoder, first layer to last."""
    layers = decoder_towers(config)["language"]
    return {"language": fuse(layers, FUSED_QUERY_KEY_VALUE, FUSED_GATE_UP), "vision": ()}


def keys_and_values(layer: Any, hidden: Any, rotations: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the keys and values (rows, heads, tokens, width) of a layer: the last parts of the fused linear."""
    attention = layer.self_attn
    width = attention.num_key_value_heads * attention.head_dim
    projected = attention.qkv_proj(layer.input_layernorm(hidden))
    keys, values = (
        part.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for part in projected[..., -2 * width :].split(width, dim=-1)
    )
    _, keys = sys.modules[type(attention).__module__].apply_rotary_pos_emb(keys[:, :0], keys, *rotations)
    return keys, values


PHI3 = replace(
    decoder("Phi3ForCausalLM", LayerWeights(no_bias)),
    towers=phi3_towers,
    shared_forward=SharedForwardSteps(keys_and_values=keys_and_values),
)

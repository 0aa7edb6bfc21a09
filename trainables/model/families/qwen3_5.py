"""Qwen3.5: most decoder layers are linear attention, which keeps a state in place of keys and values.

Such a layer (Gated DeltaNet) has no `q_proj`: `in_proj_qkv` makes queries, keys and values, `in_proj_z` the gate of its
output, and `in_proj_b` and `in_proj_a` how much each token writes to the state and how fast it fades. The `q_proj` of
the other layers also makes the gate of their output, so it is twice as wide.
"""

from __future__ import annotations

from dataclasses import replace

from trainables.model.families import qwen_vision
from trainables.model.families.decoder_weights import LayerWeights
from trainables.model.families.family import (
    Blocks,
    Config,
    Family,
    LinearShape,
    Shapes,
    Towers,
    every_layer,
    not_tied,
)
from trainables.model.families.qwen3_vl import qwen3_vl_towers, qwen3_vl_weights, read_images
from trainables.model.families.qwen_vision import merger_and_patches
from trainables.model.families.qwen_vision_weights import VISUAL
from trainables.model.families.text import decoder

# of transformers' class, for values that config.json leaves out
TEXT_DEFAULTS = {
    "vocab_size": 248_320, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 32,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}  # fmt: skip
VISION_DEFAULTS = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "in_channels": 3, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584, "num_position_embeddings": 2304,
}  # fmt: skip
LINEAR, FULL = "linear_attention", "full_attention"
VISION_DECODER = "model.language_model"


def layer_types(text: Config) -> tuple[str, ...]:
    """Return the kind of attention of each layer: every fourth is full unless config.json says otherwise.

    Raises:
        ValueError: config.json gives the kinds of more or fewer layers than there are.
    """
    interval = text.get("full_attention_interval", 4)
    every = (LINEAR if (index + 1) % interval else FULL for index in range(text["num_hidden_layers"]))
    return every_layer(text, every)


def layers(prefix: str, given: Config) -> Blocks:
    """Return the linears of the decoder layers, which are at `prefix`.0, `prefix`.1, ..."""
    text = {**TEXT_DEFAULTS, **given}
    hidden, feed_forward = text["hidden_size"], text["intermediate_size"]
    attention = {LINEAR: ("linear_attn", _linear(text)), FULL: ("self_attn", _full(text))}
    mlp = {"gate_proj": (hidden, feed_forward), "up_proj": (hidden, feed_forward), "down_proj": (feed_forward, hidden)}
    found = []
    for index, kind in enumerate(layer_types(text)):
        module, widths = attention[kind]
        parts = (*((f"{module}.{name}", one) for name, one in widths.items()),
                 *((f"mlp.{name}", one) for name, one in mlp.items()))  # fmt: skip
        found.append(tuple(LinearShape(f"{prefix}.{index}.{name}", *one) for name, one in parts))
    return tuple(found)


def _linear(text: Config) -> dict[str, tuple[int, int]]:
    hidden, heads = text["hidden_size"], text["linear_num_value_heads"]
    keys, values = _keys(text), heads * text["linear_value_head_dim"]
    return {
        "in_proj_qkv": (hidden, 2 * keys + values),
        "in_proj_z": (hidden, values),
        "in_proj_b": (hidden, heads),
        "in_proj_a": (hidden, heads),
        "out_proj": (values, hidden),
    }


def _keys(text: Config) -> int:
    return text["linear_num_key_heads"] * text["linear_key_head_dim"]


def _full(text: Config) -> dict[str, tuple[int, int]]:
    hidden, width = text["hidden_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * width, text["num_key_value_heads"] * width
    return {
        "q_proj": (hidden, 2 * queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
    }


def other_weights(prefix: str, given: Config) -> Shapes:
    """Return the shapes of the weights of the decoder at `prefix` but the matrices of its layers."""
    text = {**TEXT_DEFAULTS, **given}
    hidden, vocabulary = text["hidden_size"], text["vocab_size"]
    heads, width = text["linear_num_value_heads"], text["linear_value_head_dim"]
    convolved = 2 * _keys(text) + heads * width
    shapes: Shapes = {
        f"{prefix}.embed_tokens.weight": (vocabulary, hidden),
        f"{prefix}.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for index, kind in enumerate(layer_types(text)):
        at = f"{prefix}.layers.{index}"
        shapes |= {f"{at}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
        if kind == LINEAR:
            shapes |= {
                f"{at}.linear_attn.conv1d.weight": (convolved, 1, text["linear_conv_kernel_dim"]),
                f"{at}.linear_attn.dt_bias": (heads,),
                f"{at}.linear_attn.A_log": (heads,),
                f"{at}.linear_attn.norm.weight": (width,),
            }
        else:
            shapes |= {f"{at}.self_attn.{norm}.weight": (text["head_dim"],) for norm in ("q_norm", "k_norm")}
            biases = _full(text).items() if text.get("attention_bias") else ()
            shapes |= {f"{at}.self_attn.{name}.bias": (outputs,) for name, (_, outputs) in biases}
    return shapes


def _seeing(config: Config) -> Config:
    """Return a configuration as Qwen3-VL's functions read it, whose vision tower is the same but for DeepStack."""
    vision = {**VISION_DEFAULTS, **(config.get("vision_config") or {}), "deepstack_visual_indexes": []}
    return {"text_config": {**TEXT_DEFAULTS, **(config.get("text_config") or {})}, "vision_config": vision}


def towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (the merger is not a block)."""
    seeing = _seeing(config)
    return {
        "language": layers(f"{VISION_DECODER}.layers", seeing["text_config"]),
        "vision": qwen3_vl_towers(seeing)["vision"],
    }


def weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    seeing = _seeing(config)
    vision = {name: one for name, one in qwen3_vl_weights(seeing).items() if name.startswith(f"{VISUAL}.")}
    return vision | other_weights(VISION_DECODER, seeing["text_config"])


def outside(config: Config) -> tuple[str, ...]:
    """Return the linears outside the vision blocks: patch embedding and merger."""
    patches, *_ = merger_and_patches(config)
    return (patches, f"{VISUAL}.merger.linear_fc1", f"{VISUAL}.merger.linear_fc2")


QWEN3_5 = replace(
    qwen_vision.vision_family("Qwen3_5ForConditionalGeneration", towers, weights, read_images, outside),
    shared_forward=None,
    packs_rows=False,
    is_tied=not_tied,
    renamed_weights=qwen_vision.RENAMED_WEIGHTS[:3],
)
QWEN3_5_TEXT: Family = replace(
    decoder("Qwen3_5ForCausalLM", LayerWeights()),
    towers=lambda config: {"language": layers("model.layers", config), "vision": ()},
    other_weights=lambda config: other_weights("model", config),
    shared_forward=None,
    packs_rows=False,
)

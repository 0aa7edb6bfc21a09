"""Gemma 4, dense: layers with full attention have wider heads, and the last layers read the keys of earlier ones.

A layer may also take an input of its own for every token (`per_layer_input_gate`, `per_layer_projection`). The audio
tower is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainables.errors import UserError
from trainables.model.families.family import (
    ROTARY_FREQUENCIES,
    SECOND_PREFIX,
    Blocks,
    Config,
    Family,
    LinearShape,
    PictureText,
    Shapes,
    Towers,
    every_layer,
)
from trainables.model.families.gemma4_towers import (
    AUDIO_DEFAULTS,
    SANDWICH,
    VISION,
    VISION_DEFAULTS,
    audio_layers,
    audio_weights,
    vision_blocks,
    vision_weights,
)
from trainables.model.families.llava import DECODER, tied_by_default, with_defaults

# of transformers' class, for values that config.json leaves out
TEXT_DEFAULTS = {
    "vocab_size": 262_144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size_per_layer_input": 262_144,
    "hidden_size_per_layer_input": 256, "attention_k_eq_v": False, "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
}  # fmt: skip
TEXT_ALONE, ALONE = "gemma4_text", "model"  # the decoder without towers, and where it lies in its model
FULL = "full_attention"
GLOBAL_HEAD_WIDTH = 512
POOLING = 3  # patches on a side that become one token
KEYS_AND_VALUES = ("k_proj", "v_proj", "k_norm", "v_norm")
BEGIN, SOFT, END = "<|image>", "<|image|>", "<image|>"


def _text(config: Config) -> Config:
    """Return the configuration of the decoder; config.json gives it in `text_config`, or is it.

    Raises:
        UserError: its layers have experts.
    """
    is_alone = config.get("model_type") == TEXT_ALONE
    text = {**TEXT_DEFAULTS, **config} if is_alone else with_defaults(config, "text_config", TEXT_DEFAULTS)
    if text.get("enable_moe_block"):
        raise UserError(
            "a Gemma 4 base must be dense, but config.json sets `enable_moe_block`: its layers have experts",
            "use one of the dense bases of the family",
        )
    return text


def _vision(config: Config) -> Config:
    """Return the configuration of the vision tower.

    Raises:
        UserError: there is none.
    """
    if config.get("vision_config") is None:
        raise UserError(
            "a Gemma 4 base must have a vision tower, but config.json gives no `vision_config`",
            "use a base as it was published",
        )
    return with_defaults(config, "vision_config", VISION_DEFAULTS)


def _layer_types(text: Config) -> list[str]:
    depth = text["num_hidden_layers"]
    types = every_layer(text, ("sliding_attention" if (n + 1) % 6 else FULL for n in range(depth)))
    return [*types[:-1], FULL]  # as transformers forces it


def _widths(text: Config, index: int, kind: str) -> tuple[int, int]:
    """Return the width of a head, and the number of heads of keys, of one layer."""
    own = {"head_dim": text["head_dim"], "num_key_value_heads": text["num_key_value_heads"]}
    written = text.get("per_layer_config")
    if written is not None:
        own |= {int(one): values for one, values in written.items()}.get(index, {})  # written as `05`
    elif kind == FULL:
        own["head_dim"] = text.get("global_head_dim") or GLOBAL_HEAD_WIDTH
        if text["attention_k_eq_v"] and text.get("num_global_key_value_heads"):
            own["num_key_value_heads"] = text["num_global_key_value_heads"]
    return own["head_dim"], own["num_key_value_heads"]


def _shares_keys(text: Config, index: int) -> bool:
    return index >= text["num_hidden_layers"] - text["num_kv_shared_layers"]


def layers(prefix: str, text: Config) -> Blocks:
    """Return the linears of the decoder layers, which are at `prefix`.0, `prefix`.1, ..."""
    return tuple(
        tuple(LinearShape(f"{prefix}.{index}.{name}", *widths) for name, widths in _layer(text, index, kind).items())
        for index, kind in enumerate(_layer_types(text))
    )


def _layer(text: Config, index: int, kind: str) -> dict[str, tuple[int, int]]:
    hidden, shares = text["hidden_size"], _shares_keys(text, index)
    width, key_heads = _widths(text, index, kind)
    queries, keys = text["num_attention_heads"] * width, key_heads * width
    feed_forward = text["intermediate_size"] * (2 if text["use_double_wide_mlp"] and shares else 1)
    found = {"self_attn.q_proj": (hidden, queries)}
    if not shares:
        found["self_attn.k_proj"] = (hidden, keys)
        if not (text["attention_k_eq_v"] and kind == FULL):  # else values are the keys before their norm
            found["self_attn.v_proj"] = (hidden, keys)
    found |= {
        "self_attn.o_proj": (queries, hidden), "mlp.gate_proj": (hidden, feed_forward),
        "mlp.up_proj": (hidden, feed_forward), "mlp.down_proj": (feed_forward, hidden),
    }  # fmt: skip
    own = text["hidden_size_per_layer_input"]
    return found | ({"per_layer_input_gate": (hidden, own), "per_layer_projection": (own, hidden)} if own else {})


def patches_per_token(config: Config) -> int:
    """Return how many patches are pooled into one token; a small picture is padded and costs as much as a full one."""
    return int(_vision(config).get("pooling_kernel_size", POOLING)) ** 2


def towers(config: Config) -> Towers:
    """Return the linears of the language layers and the vision blocks, first to last."""
    return {"language": layers(f"{DECODER}.layers", _text(config)), "vision": vision_blocks(_vision(config))}


def other_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the language layers and the vision blocks."""
    text = _text(config)
    return {
        **decoder_weights(DECODER, text),
        **vision_weights(_vision(config), text["hidden_size"]),
        **(audio_weights(_audio(config), text["hidden_size"]) if _hears(config) else {}),
    }


def decoder_weights(prefix: str, text: Config) -> Shapes:
    """Return the shapes of the weights of the decoder at `prefix` but the matrices of its layers."""
    hidden, own, depth = text["hidden_size"], text["hidden_size_per_layer_input"], text["num_hidden_layers"]
    shapes: Shapes = {
        f"{prefix}.embed_tokens.weight": (text["vocab_size"], hidden),
        f"{prefix}.norm.weight": (hidden,),
        "lm_head.weight": (text["vocab_size"], hidden),
    }
    if own:
        shapes[f"{prefix}.embed_tokens_per_layer.weight"] = (text["vocab_size_per_layer_input"], depth * own)
        shapes[f"{prefix}.per_layer_model_projection.weight"] = (depth * own, hidden)
        shapes[f"{prefix}.per_layer_projection_norm.weight"] = (own,)
    for index, kind in enumerate(_layer_types(text)):
        at, (width, _) = f"{prefix}.layers.{index}", _widths(text, index, kind)
        norms = (*SANDWICH, "post_per_layer_input_norm") if own else SANDWICH
        head_norms = ("q_norm",) if _shares_keys(text, index) else ("q_norm", "k_norm")
        shapes |= {f"{at}.{norm}.weight": (hidden,) for norm in norms}
        shapes |= {f"{at}.self_attn.{norm}.weight": (width,) for norm in head_norms}
        shapes[f"{at}.layer_scalar"] = (1,)
        if text.get("attention_bias"):
            linears = _layer(text, index, kind).items()
            shapes |= {f"{at}.{name}.bias": (one[1],) for name, one in linears if name.startswith("self_attn.")}
    return shapes


def _hears(config: Config) -> bool:
    return config.get("audio_config") is not None


def _audio(config: Config) -> Config:
    return with_defaults(config, "audio_config", AUDIO_DEFAULTS)


def unread(config: Config, prefix: str = DECODER) -> frozenset[str]:
    """Return the weights that published bases hold for layers that read the keys and values of earlier ones."""
    text = _text(config)
    shared = (index for index in range(text["num_hidden_layers"]) if _shares_keys(text, index))
    return frozenset(f"{prefix}.layers.{index}.self_attn.{name}.weight" for index in shared for name in KEYS_AND_VALUES)


def outside(config: Config) -> tuple[str, ...]:
    """Return the layers outside the blocks: the audio tower, what carries pictures over, and what all layers share."""
    return (
        *_of_all_layers(config, DECODER),
        f"{VISION}.patch_embedder.input_proj",
        "model.embed_vision.embedding_projection",
        *(audio_layers(_audio(config)) if _hears(config) else ()),
    )


def _of_all_layers(config: Config, prefix: str) -> tuple[str, ...]:
    return (f"{prefix}.per_layer_model_projection",) if _text(config)["hidden_size_per_layer_input"] else ()


def expanded(_: Config, features: Mapping[str, Any]) -> str:
    """Return the text of a picture: as many tokens as its size gives, between two marks.

    Source: transformers' `Gemma4Processor.replace_image_token`.
    """
    return f"{BEGIN}{SOFT * int(features['num_soft_tokens_per_image'][0])}{END}"


GEMMA4 = Family(
    model_class="Gemma4ForConditionalGeneration",
    decoder=DECODER,
    towers=towers,
    patches_per_token=patches_per_token,
    other_weights=other_weights,
    shared_forward=None,
    outside=outside,
    image_processor_class="Gemma4ImageProcessorPil",
    image_token=SOFT,
    image_token_mask="mm_token_type_ids",  # noqa: S106 the name of an input
    picture_text=PictureText(SOFT, expanded, ("pixel_values", "image_position_ids")),
    logit_limit_key="final_logit_softcapping",
    is_tied=tied_by_default,
    renamed_weights=SECOND_PREFIX,
    ignored_weights=(ROTARY_FREQUENCIES,),
    unread_weights=unread,
)
GEMMA4_TEXT = replace(
    GEMMA4,
    model_class="Gemma4ForCausalLM",
    decoder=ALONE,
    towers=lambda config: {"language": layers(f"{ALONE}.layers", _text(config)), "vision": ()},
    other_weights=lambda config: decoder_weights(ALONE, _text(config)),
    outside=lambda config: _of_all_layers(config, ALONE),
    unread_weights=lambda config: unread(config, ALONE),
    image_processor_class=None,
    image_token=None,
    image_token_mask=None,
    picture_text=None,
    renamed_weights=(),
)

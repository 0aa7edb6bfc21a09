"""InternVL in transformers' own layout (`-hf`): a picture is cut into tiles, and each becomes as many tokens.

The decoder is of another family, which `text_config` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.errors import UserError, quoted
from trainables.model.families.decoder_weights import (
    HEAD_NORMS,
    LayerWeights,
    any_bias,
    decoder_weights,
    query_key_value_bias,
)
from trainables.model.families.family import (
    ROTARY_FREQUENCIES,
    Blocks,
    Config,
    Family,
    LinearShape,
    PictureText,
    Shapes,
    Towers,
    decoder_layers,
)
from trainables.model.families.llava import (
    DECODER,
    PROJECTOR,
    RENAMED_WEIGHTS,
    TOWER,
    tied_by_default,
    with_defaults,
)

# of transformers' classes, for values that config.json leaves out
DECODERS: Mapping[str, tuple[LayerWeights, Mapping[str, int]]] = {
    "qwen2": (LayerWeights(query_key_value_bias), {
        "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32}),
    "qwen3": (LayerWeights(head_norms=HEAD_NORMS), {
        "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128}),
    "llama": (LayerWeights(any_bias), {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32}),
}  # fmt: skip
VISION_DEFAULTS = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_channels": 3, "image_size": 448,
    "patch_size": 14, "attention_bias": False, "use_qk_norm": False, "norm_type": "layer_norm",
    "use_mask_token": False, "use_absolute_position_embeddings": True, "use_mean_pooling": True,
}  # fmt: skip
BEGIN, SOFT, END = "<img>", "<IMG_CONTEXT>", "</img>"
PARTS = ("weight", "bias")
ATTENTION = ("q_proj", "k_proj", "v_proj")


def _decoder(config: Config) -> tuple[LayerWeights, Config]:
    """Return what a layer of the decoder holds, and its configuration.

    Raises:
        UserError: the decoder is of a family that is not known here.
    """
    kind = (config.get("text_config") or {}).get("model_type", "qwen2")
    if kind not in DECODERS:
        raise UserError(
            f"the decoder of an InternVL base must be one of {', '.join(DECODERS)} (`text_config.model_type`), but got "
            f"{quoted(kind)}",
            "use a base whose decoder is one of these",
        )
    layer, defaults = DECODERS[kind]
    return layer, with_defaults(config, "text_config", defaults)


def _vision(config: Config) -> Config:
    return with_defaults(config, "vision_config", VISION_DEFAULTS)


def towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (the projector is not a block)."""
    return {
        "language": decoder_layers(f"{DECODER}.layers", _decoder(config)[1]),
        "vision": _blocks(_vision(config)),
    }


def _blocks(vision: Config) -> Blocks:
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    prefixes = (f"{TOWER}.encoder.layer.{index}" for index in range(vision["num_hidden_layers"]))
    return tuple(
        (
            *(LinearShape(f"{at}.attention.{name}", hidden, hidden) for name in (*ATTENTION, "projection_layer")),
            LinearShape(f"{at}.mlp.fc1", hidden, feed_forward),
            LinearShape(f"{at}.mlp.fc2", feed_forward, hidden),
        )
        for at in prefixes
    )


def patches_per_token(config: Config) -> int:
    """Return how many patches are joined into one token."""
    return int(1 / config.get("downsample_ratio", 0.5)) ** 2


def other_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    (layer, text), vision = _decoder(config), _vision(config)
    joined = vision["hidden_size"] * patches_per_token(config)
    out = text["hidden_size"]
    return {
        **decoder_weights(DECODER, text, layer),
        **_embeddings(vision),
        **{name: shape for index in range(vision["num_hidden_layers"]) for name, shape in _block(vision, index)},
        **{f"{PROJECTOR}.layer_norm.{part}": (joined,) for part in PARTS},
        f"{PROJECTOR}.linear_1.weight": (out, joined), f"{PROJECTOR}.linear_1.bias": (out,),
        f"{PROJECTOR}.linear_2.weight": (out, out), f"{PROJECTOR}.linear_2.bias": (out,),
    }  # fmt: skip


def _embeddings(vision: Config) -> Shapes:
    hidden, at = vision["hidden_size"], f"{TOWER}.embeddings"
    (height, width), (tall, wide) = _sides(vision["image_size"]), _sides(vision["patch_size"])
    shapes: Shapes = {
        f"{at}.cls_token": (1, 1, hidden),
        f"{at}.patch_embeddings.projection.weight": (hidden, vision["num_channels"], tall, wide),
        f"{at}.patch_embeddings.projection.bias": (hidden,),
    }
    if vision["use_mask_token"]:
        shapes[f"{at}.mask_token"] = (1, 1, hidden)
    if vision["use_absolute_position_embeddings"]:
        shapes[f"{at}.position_embeddings"] = (1, (height // tall) * (width // wide) + 1, hidden)
    if not vision["use_mean_pooling"]:
        shapes |= {f"{TOWER}.layernorm.{part}": (hidden,) for part in PARTS}
    return shapes


def _sides(size: Any) -> tuple[int, int]:
    return tuple(size) if isinstance(size, list | tuple) else (size, size)


def _block(vision: Config, index: int) -> list[tuple[str, tuple[int, ...]]]:
    hidden, at = vision["hidden_size"], f"{TOWER}.encoder.layer.{index}"
    norms = PARTS if vision["norm_type"] == "layer_norm" else PARTS[:1]
    biased = [name for name in ATTENTION if vision["attention_bias"]]
    vectors = [
        "lambda_1", "lambda_2",
        *(f"{norm}.{part}" for norm in ("layernorm_before", "layernorm_after") for part in norms),
        *(f"attention.{name}.bias" for name in (*biased, "projection_layer")),
        *(f"attention.{norm}.weight" for norm in ("q_norm", "k_norm") if vision["use_qk_norm"]),
        "mlp.fc2.bias",
    ]  # fmt: skip
    return [*((f"{at}.{name}", (hidden,)) for name in vectors), (f"{at}.mlp.fc1.bias", (vision["intermediate_size"],))]


def outside(_: Config) -> tuple[str, ...]:
    """Return the layers outside the blocks: patch embedding and projector."""
    patches = f"{TOWER}.embeddings.patch_embeddings.projection"
    return (patches, f"{PROJECTOR}.linear_1", f"{PROJECTOR}.linear_2")


def expanded(config: Config, features: Mapping[str, Any]) -> str:
    """Return the text of a picture: the tokens of all its tiles between two marks.

    Source: transformers' `InternVLProcessor.replace_image_token`.
    """
    return f"{BEGIN}{SOFT * (config.get('image_seq_length', 256) * int(features['num_patches'][0]))}{END}"


INTERNVL = Family(
    model_class="InternVLForConditionalGeneration",
    decoder=DECODER,
    towers=towers,
    patches_per_token=patches_per_token,
    other_weights=other_weights,
    shared_forward=None,
    outside=outside,
    image_processor_class="GotOcr2ImageProcessorPil",
    image_token=SOFT,
    picture_text=PictureText(SOFT, expanded, options={"crop_to_patches": True}),
    is_tied=tied_by_default,
    renamed_weights=RENAMED_WEIGHTS,
    ignored_weights=(ROTARY_FREQUENCIES,),
)

"""Gemma 3 with pictures: a SigLIP tower, and tokens of one picture that attend to each other in both directions.

The decoder builds that attention from `token_type_ids`; without them it is causal, and nothing reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.model.families import siglip
from trainables.model.families.decoder_weights import HEAD_NORMS, SANDWICH_NORMS, LayerWeights, decoder_weights
from trainables.model.families.family import (
    ROTARY_FREQUENCIES,
    Config,
    Family,
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

# of transformers' classes: published configurations leave out what equals them
TEXT_DEFAULTS = {
    "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
}  # fmt: skip
VISION_DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_channels": 3, "image_size": 224,
    "patch_size": 16, "vision_use_head": True,
}  # fmt: skip
BEGIN, SOFT, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"
CROPS = " and here are some crops to help you see better "


def _text(config: Config) -> Config:
    return with_defaults(config, "text_config", TEXT_DEFAULTS)


def _vision(config: Config) -> Config:
    return with_defaults(config, "vision_config", VISION_DEFAULTS)


def towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (the projector is not a linear)."""
    return {
        "language": decoder_layers(f"{DECODER}.layers", _text(config)),
        "vision": siglip.blocks(f"{TOWER}.encoder.layers", _vision(config)),
    }


def other_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    text, vision = _text(config), _vision(config)
    layer = LayerWeights(norms=SANDWICH_NORMS, head_norms=HEAD_NORMS)
    return {
        **decoder_weights(DECODER, text, layer),
        **siglip.weights(TOWER, vision),
        **(siglip.pooling_head(TOWER, vision) if vision["vision_use_head"] else {}),
        f"{PROJECTOR}.mm_input_projection_weight": (vision["hidden_size"], text["hidden_size"]),
        f"{PROJECTOR}.mm_soft_emb_norm.weight": (vision["hidden_size"],),
    }


def patches_per_token(config: Config) -> int:
    """Return how many patches are pooled into one token: those of a picture, by its number of tokens."""
    vision = _vision(config)
    return (vision["image_size"] // vision["patch_size"]) ** 2 // config.get("mm_tokens_per_image", 256)


def outside(config: Config) -> tuple[str, ...]:
    """Return the layers outside the blocks: patch embedding, and the head of the tower if it has one."""
    head = ("attention.out_proj", "mlp.fc1", "mlp.fc2") if _vision(config)["vision_use_head"] else ()
    return (f"{TOWER}.embeddings.patch_embedding", *(f"{TOWER}.head.{name}" for name in head))


def expanded(config: Config, features: Mapping[str, Any]) -> str:
    """Return the text of a picture: its soft tokens between two marks, and the same for each crop of it.

    Source: transformers' `Gemma3Processor.replace_image_token`.
    """
    whole = f"\n\n{BEGIN}{SOFT * config.get('mm_tokens_per_image', 256)}{END}\n\n"
    crops = int(features["num_crops"][0])
    return f"Here is the original image {whole}{CROPS}{' '.join([whole] * crops)}" if crops else whole


GEMMA3 = Family(
    model_class="Gemma3ForConditionalGeneration",
    decoder=DECODER,
    towers=towers,
    other_weights=other_weights,
    shared_forward=None,
    outside=outside,
    patches_per_token=patches_per_token,
    image_processor_class="Gemma3ImageProcessorPil",
    image_token=SOFT,
    image_token_mask="token_type_ids",  # noqa: S106 the name of an input
    picture_text=PictureText(BEGIN, expanded, options={"do_convert_rgb": True, "do_pan_and_scan": False}),
    is_tied=tied_by_default,
    renamed_weights=RENAMED_WEIGHTS,
    ignored_weights=(ROTARY_FREQUENCIES,),
)

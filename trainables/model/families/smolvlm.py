"""SmolVLM and Idefics 3: a picture is cut into tiles of one size, each of which becomes as many tokens, and one more.

The text of a picture names the row and the column of every tile. The tower is SigLIP's; a linear joins neighbouring
patches to the width of the decoder, which is Llama's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainables.model.families import siglip
from trainables.model.families.decoder_weights import LayerWeights, any_bias, decoder_weights
from trainables.model.families.family import (
    ROTARY_FREQUENCIES,
    SECOND_PREFIX,
    Config,
    Family,
    PictureText,
    Shapes,
    Towers,
    decoder_layers,
    not_tied,
)
from trainables.model.families.llava import with_defaults

# of transformers' classes, for values that config.json leaves out
TEXT_DEFAULTS = {
    "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
    "num_attention_heads": 32,
}  # fmt: skip
VISION_DEFAULTS = {
    "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_channels": 3, "image_size": 224,
    "patch_size": 32,
}  # fmt: skip
DECODER, TOWER, CONNECTOR = "model.text_model", "model.vision_model", "model.connector.modality_projection.proj"
EDGE, WHOLE, SOFT = "<fake_token_around_image>", "<global-img>", "<image>"


def _text(config: Config) -> Config:
    return with_defaults(config, "text_config", TEXT_DEFAULTS)


def _vision(config: Config) -> Config:
    return with_defaults(config, "vision_config", VISION_DEFAULTS)


def _joined_patches(config: Config) -> int:
    return config.get("scale_factor", 2) ** 2


def towers(config: Config) -> Towers:
    """Return the linears of the language layers and vision blocks, first to last (the connector is not a block)."""
    return {
        "language": decoder_layers(f"{DECODER}.layers", _text(config)),
        "vision": siglip.blocks(f"{TOWER}.encoder.layers", _vision(config)),
    }


def other_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks."""
    text, vision = _text(config), _vision(config)
    return {
        **decoder_weights(DECODER, text, LayerWeights(any_bias)),
        **siglip.weights(TOWER, vision),
        f"{CONNECTOR}.weight": (text["hidden_size"], vision["hidden_size"] * _joined_patches(config)),
    }


def outside(_: Config) -> tuple[str, ...]:
    """Return the layers outside the blocks: patch embedding and connector."""
    return (f"{TOWER}.embeddings.patch_embedding", CONNECTOR)


def expanded(config: Config, features: Mapping[str, Any]) -> str:
    """Return the text of a picture: every tile with its row and column, then the whole picture.

    Source: `get_image_prompt_string` of transformers' `SmolVLMProcessor` and `Idefics3Processor`.
    """
    vision = _vision(config)
    tokens = SOFT * ((vision["image_size"] // vision["patch_size"]) ** 2 // _joined_patches(config))
    [[rows]], [[columns]] = features["rows"], features["cols"]
    tiles = "".join(
        "".join(f"{EDGE}<row_{row + 1}_col_{column + 1}>{tokens}" for column in range(columns)) + "\n"
        for row in range(rows)
    )
    return f"{tiles}\n{EDGE}{WHOLE}{tokens}{EDGE}" if rows and columns else f"{EDGE}{WHOLE}{tokens}{EDGE}"


SMOLVLM = Family(
    model_class="SmolVLMForConditionalGeneration",
    decoder=DECODER,
    towers=towers,
    patches_per_token=_joined_patches,
    other_weights=other_weights,
    shared_forward=None,
    outside=outside,
    image_processor_class="SmolVLMImageProcessorPil",
    image_token=SOFT,
    picture_text=PictureText(
        SOFT, expanded, ("pixel_values", "pixel_attention_mask"), joined_axis=1, options={"return_row_col_info": True}
    ),
    content_as_parts=True,
    is_tied=not_tied,
    renamed_weights=SECOND_PREFIX,
    ignored_weights=(ROTARY_FREQUENCIES,),
)
IDEFICS3 = replace(
    SMOLVLM, model_class="Idefics3ForConditionalGeneration", image_processor_class="Idefics3ImageProcessorPil"
)

"""Mistral Small 3.1 and later, Magistral and Ministral 3: trained as text.

They are published with a vision tower only. It is loaded, because transformers has no class without it for these files,
but it carries no LoRA and is never run.
"""

from __future__ import annotations

from trainables.model.families.decoder_weights import LayerWeights, decoder_weights, no_bias
from trainables.model.families.family import (
    SECOND_PREFIX,
    Config,
    Family,
    LinearShape,
    Shapes,
    SharedForwardSteps,
    Towers,
    decoder_layers,
)
from trainables.model.families.text import IGNORED_WEIGHTS

DECODER, VISION, PROJECTOR = "model.language_model", "model.vision_tower", "model.multi_modal_projector"
DEFAULTS = {"num_key_value_heads": 8}  # of both decoders
MINISTRAL3_DEFAULTS = {"head_dim": 128}
VISION_DEFAULTS = {"num_channels": 3, "patch_size": 16}
# the published names are those of older releases of transformers
RENAMED_WEIGHTS = (
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^(language_model|vision_tower|multi_modal_projector)\.", r"model.\1."),
    *SECOND_PREFIX,
)


def text_of(config: Config) -> Config:
    """Return the configuration of the decoder."""
    text = config["text_config"]
    own = MINISTRAL3_DEFAULTS if text.get("model_type") == "ministral3" else {}
    return {**DEFAULTS, **own, **text}


def mistral3_towers(config: Config) -> Towers:
    """Return the linears of the decoder, first layer to last; no block of the vision tower is trained."""
    return {"language": decoder_layers(f"{DECODER}.layers", text_of(config)), "vision": ()}


def untrained_linears(config: Config) -> tuple[LinearShape, ...]:
    """Return the linears of the vision tower and of the projector."""
    vision, out = config["vision_config"], config["text_config"]["hidden_size"]
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    taken = config.get("vision_feature_layer", -1)  # one layer, or a list of them
    merged = hidden * config.get("spatial_merge_size", 2) ** 2
    blocks = [f"{VISION}.transformer.layers.{index}" for index in range(vision["num_hidden_layers"])]
    return (
        *(LinearShape(f"{at}.attention.{name}", hidden, hidden)
          for at in blocks for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
        *(LinearShape(f"{at}.feed_forward.{name}", hidden, feed_forward)
          for at in blocks for name in ("gate_proj", "up_proj")),
        *(LinearShape(f"{at}.feed_forward.down_proj", feed_forward, hidden) for at in blocks),
        LinearShape(f"{PROJECTOR}.patch_merger.merging_layer", merged, hidden),
        LinearShape(f"{PROJECTOR}.linear_1", hidden * (len(taken) if isinstance(taken, list) else 1), out),
        LinearShape(f"{PROJECTOR}.linear_2", out, out),
    )  # fmt: skip


def mistral3_weights(config: Config) -> Shapes:
    """Return the shapes of all weights but the matrices of the decoder's layers."""
    vision, untrained = {**VISION_DEFAULTS, **config["vision_config"]}, untrained_linears(config)
    hidden, patch = vision["hidden_size"], vision["patch_size"]
    sides = tuple(patch) if isinstance(patch, list) else (patch, patch)
    norms = [f"{VISION}.ln_pre", f"{PROJECTOR}.norm"]
    for index in range(vision["num_hidden_layers"]):
        norms += [f"{VISION}.transformer.layers.{index}.{name}" for name in ("attention_norm", "ffn_norm")]
    shapes = decoder_weights(DECODER, text_of(config), LayerWeights(no_bias))
    shapes |= {f"{one.name}.weight": (one.outputs, one.inputs) for one in untrained}
    shapes |= {f"{name}.weight": (hidden,) for name in norms}
    shapes[f"{VISION}.patch_conv.weight"] = (hidden, vision["num_channels"], *sides)
    if config.get("multimodal_projector_bias"):
        shapes |= {f"{one.name}.bias": (one.outputs,) for one in untrained[-2:]}
    return shapes


def is_tied(config: Config) -> bool:
    """Return `tie_word_embeddings` of config.json, else of its `text_config`.

    Where neither says so, the head is a weight of its own, as in Mistral Small 3.1: transformers does not tie it either
    when a base holds both.
    """
    return bool(config.get("tie_word_embeddings", config["text_config"].get("tie_word_embeddings", False)))


MISTRAL3 = Family(
    "Mistral3ForConditionalGeneration",
    DECODER,
    mistral3_towers,
    mistral3_weights,
    SharedForwardSteps(),
    outside=lambda config: tuple(linear.name for linear in untrained_linears(config)),
    is_tied=is_tied,
    renamed_weights=RENAMED_WEIGHTS,
    ignored_weights=IGNORED_WEIGHTS,
    decoder_types=("mistral", "ministral3"),
)

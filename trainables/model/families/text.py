"""Text-only decoders: Qwen2, Qwen3, Llama, SmolLM3, Mistral, Ministral, Gemma and GLM-4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainables.model.families.decoder_weights import (
    HEAD_NORMS,
    SANDWICH_NORMS,
    LayerWeights,
    any_bias,
    decoder_weights,
    no_bias,
    query_key_value_bias,
)
from trainables.model.families.family import (
    MULTI_TOKEN_PREDICTION,
    ROTARY_FREQUENCIES,
    SECOND_PREFIX,
    Config,
    Family,
    SharedForwardSteps,
    Towers,
    decoder_layers,
)
from trainables.model.families.fused import FUSED_GATE_UP, QUERY_KEY_VALUE, fuse

IGNORED_WEIGHTS = (ROTARY_FREQUENCIES, MULTI_TOKEN_PREDICTION)
RENAMED_WEIGHTS = (
    *SECOND_PREFIX,
    (r"^(embed_tokens|layers|norm)\.", r"model.\1."),
)
NO_DEFAULTS: Config = {}
GLM4_NORMS = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")
IMAGE_TOKEN = "<image_soft_token>"  # noqa: S105 the tokenizer is that of the larger Gemma 3, which take images


def decoder_towers(config: Config) -> Towers:
    """Return the linears of a text-only decoder, first layer to last; its vision tower has no block."""
    return {"language": decoder_layers("model.layers", config), "vision": ()}


def tied_by_default(config: Config) -> bool:
    """Return `tie_word_embeddings`, which is true unless config.json says otherwise."""
    return bool(config.get("tie_word_embeddings", True))


def smollm3_towers(config: Config) -> Towers:
    """Return the linears of SmolLM3, some of whose layers have no positions.

    Raises:
        ValueError: config.json says of fewer layers than there are whether they have positions.
    """
    layers, given = config["num_hidden_layers"], config.get("no_rope_layers")
    if given is not None and len(given) < layers:
        raise ValueError(f"`no_rope_layers` must have an entry for each of {layers} layers, but has {len(given)}")
    return decoder_towers(config)


def glm_towers(config: Config) -> Towers:
    """Return the linears of a dense GLM-4, whose gate and up are one linear."""
    return {"language": fuse(decoder_layers("model.layers", config), FUSED_GATE_UP), "vision": ()}


def glm_bias(config: Config) -> tuple[str, ...]:
    """Return the linears of a dense GLM-4 with a bias: all or none of queries, keys and values."""
    return QUERY_KEY_VALUE if config.get("attention_bias", True) else ()


def decoder(
    model_class: str,
    layer: LayerWeights,
    towers: Callable[[Config], Towers] = decoder_towers,
    defaults: Config = NO_DEFAULTS,
) -> Family:
    """Return the family of a text-only decoder with this class in transformers.

    `defaults` are the values of this class for keys that config.json leaves out.
    """
    return Family(
        model_class,
        "model",
        lambda config: towers({**defaults, **config}),
        lambda config: decoder_weights("model", {**defaults, **config}, layer),
        SharedForwardSteps(),
        renamed_weights=RENAMED_WEIGHTS,
        ignored_weights=IGNORED_WEIGHTS,
    )


QWEN2 = decoder("Qwen2ForCausalLM", LayerWeights(query_key_value_bias))
QWEN3 = decoder("Qwen3ForCausalLM", LayerWeights(head_norms=HEAD_NORMS))
LLAMA = decoder("LlamaForCausalLM", LayerWeights(any_bias))
SMOLLM3 = replace(
    decoder("SmolLM3ForCausalLM", LayerWeights(any_bias), smollm3_towers, {"num_key_value_heads": 4}),
    is_tied=tied_by_default,
)
MISTRAL = decoder("MistralForCausalLM", LayerWeights(no_bias), defaults={"num_key_value_heads": 8})
MINISTRAL = decoder("MinistralForCausalLM", LayerWeights(no_bias), defaults={"num_key_value_heads": 8})
MINISTRAL3 = decoder(
    "Ministral3ForCausalLM", LayerWeights(no_bias), defaults={"num_key_value_heads": 8, "head_dim": 128}
)
GEMMA = replace(decoder("GemmaForCausalLM", LayerWeights()), is_tied=tied_by_default)
GEMMA2 = replace(
    decoder("Gemma2ForCausalLM", LayerWeights(norms=SANDWICH_NORMS)),
    is_tied=tied_by_default,
    logit_limit_key="final_logit_softcapping",
)
GEMMA3_TEXT = replace(
    decoder("Gemma3ForCausalLM", LayerWeights(norms=SANDWICH_NORMS, head_norms=HEAD_NORMS)),
    is_tied=tied_by_default,
    logit_limit_key="final_logit_softcapping",
    tokens_without_embedding=(IMAGE_TOKEN,),
)
# GLM-4's template writes nothing after an answer: the next turn begins with one of these tokens, and GLM generates it
GLM_ANSWER_ENDS = ("<|user|>", "<|observation|>")
GLM_DEFAULTS = {"num_key_value_heads": 2, "head_dim": 128}
GLM = replace(decoder("GlmForCausalLM", LayerWeights(glm_bias), glm_towers, GLM_DEFAULTS), answer_ends=GLM_ANSWER_ENDS)
GLM4 = replace(
    decoder("Glm4ForCausalLM", LayerWeights(glm_bias, norms=GLM4_NORMS), glm_towers, GLM_DEFAULTS),
    answer_ends=GLM_ANSWER_ENDS,
)

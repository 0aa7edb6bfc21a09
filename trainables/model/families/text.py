"""Text-only decoders: Qwen2, Qwen3, Llama, Mistral and Gemma."""

from __future__ import annotations

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

IGNORED_WEIGHTS = (ROTARY_FREQUENCIES, MULTI_TOKEN_PREDICTION)
RENAMED_WEIGHTS = (
    *SECOND_PREFIX,
    (r"^(embed_tokens|layers|norm)\.", r"model.\1."),
)
IMAGE_TOKEN = "<image_soft_token>"  # noqa: S105 the tokenizer is that of the larger Gemma 3, which take images


def decoder_towers(config: Config) -> Towers:
    """Return the linears of a text-only decoder, first layer to last; its vision tower has no block."""
    return {"language": decoder_layers("model.layers", config), "vision": ()}


def tied_by_default(config: Config) -> bool:
    """Return `tie_word_embeddings`, which is true unless config.json says otherwise."""
    return bool(config.get("tie_word_embeddings", True))


def decoder(model_class: str, layer: LayerWeights) -> Family:
    """Return the family of a text-only decoder with this class in transformers."""
    return Family(
        model_class,
        "model",
        decoder_towers,
        lambda config: decoder_weights("model", config, layer),
        SharedForwardSteps(),
        renamed_weights=RENAMED_WEIGHTS,
        ignored_weights=IGNORED_WEIGHTS,
    )


QWEN2 = decoder("Qwen2ForCausalLM", LayerWeights(query_key_value_bias))
QWEN3 = decoder("Qwen3ForCausalLM", LayerWeights(head_norms=HEAD_NORMS))
LLAMA = decoder("LlamaForCausalLM", LayerWeights(any_bias))
MISTRAL = decoder("MistralForCausalLM", LayerWeights(no_bias))
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

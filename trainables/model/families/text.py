"""Text-only decoders: Qwen2, Qwen3, Llama, Mistral and Gemma."""

from __future__ import annotations

from trainables.model.families.family import Config, Family, SharedForwardSteps, Towers, decoder_layers


def decoder_towers(config: Config) -> Towers:
    """Return the linears of a text-only decoder, first layer to last; its vision tower has no block."""
    return {"language": decoder_layers("model.layers", config), "vision": ()}


def decoder(model_class: str, logit_limit_key: str | None = None) -> Family:
    """Return the family of a text-only decoder with this class in transformers."""
    return Family(model_class, "model", decoder_towers, SharedForwardSteps(), logit_limit_key=logit_limit_key)


QWEN2 = decoder("Qwen2ForCausalLM")
QWEN3 = decoder("Qwen3ForCausalLM")
LLAMA = decoder("LlamaForCausalLM")
MISTRAL = decoder("MistralForCausalLM")
GEMMA = decoder("GemmaForCausalLM")
GEMMA2 = decoder("Gemma2ForCausalLM", "final_logit_softcapping")
GEMMA3_TEXT = decoder("Gemma3ForCausalLM", "final_logit_softcapping")

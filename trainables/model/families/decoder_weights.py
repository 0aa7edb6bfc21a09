"""The weights of a decoder beside the matrices of its layers: embedding, head, norms and biases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainables.model.families.family import Config, Shapes, decoder_layers, head_width

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


def attention_bias(text: Config) -> tuple[str, ...]:
    """Return the linears with a bias where `attention_bias` decides."""
    return ATTENTION if text.get("attention_bias") else ()


def any_bias(text: Config) -> tuple[str, ...]:
    """Return the linears with a bias where `attention_bias` and `mlp_bias` decide."""
    return (*attention_bias(text), *(FEED_FORWARD if text.get("mlp_bias") else ()))


def query_key_value_bias(_: Config) -> tuple[str, ...]:
    """Return the linears with a bias in the decoders of Qwen2."""
    return ATTENTION[:3]


def no_bias(_: Config) -> tuple[str, ...]:
    """Return no linears."""
    return ()


@dataclass(frozen=True)
class LayerWeights:
    """What a decoder layer holds beside its linears: norms as wide as the model or as a head, and biases.

    `biased` computes the names of the linears with a bias from the decoder's configuration.
    """

    biased: Callable[[Config], tuple[str, ...]] = attention_bias
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: tuple[str, ...] = ()


HEAD_NORMS = ("q_norm", "k_norm")
SANDWICH_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
)  # fmt: skip


def decoder_weights(prefix: str, text: Config, layer: LayerWeights) -> Shapes:
    """Return the shapes of all weights of the decoder at `prefix` but the matrices of its layers."""
    hidden, vocabulary = text["hidden_size"], text["vocab_size"]
    shapes: Shapes = {
        f"{prefix}.embed_tokens.weight": (vocabulary, hidden),
        f"{prefix}.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    biased = layer.biased(text)
    for index, linears in enumerate(decoder_layers(f"{prefix}.layers", text)):
        at = f"{prefix}.layers.{index}"
        shapes |= {f"{at}.{norm}.weight": (hidden,) for norm in layer.norms}
        shapes |= {f"{at}.self_attn.{norm}.weight": (head_width(text),) for norm in layer.head_norms}
        shapes |= {f"{one.name}.bias": (one.outputs,) for one in linears if one.name.rsplit(".", 1)[1] in biased}
    return shapes

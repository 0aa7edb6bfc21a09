"""What the package needs to know about a model family; plain values and functions, importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

TowerName = Literal["language", "vision"]
TOWERS: tuple[TowerName, ...] = ("language", "vision")
Config = Mapping[str, Any]  # `config.json` of a base
Inputs = Mapping[str, "torch.Tensor"]  # of a batch, as the model's forward takes them


@dataclass(frozen=True)
class LinearShape:
    """One linear layer by its whole module name, with its input and output width."""

    name: str
    inputs: int
    outputs: int


Blocks = tuple[tuple[LinearShape, ...], ...]
Towers = dict[TowerName, Blocks]


@dataclass(frozen=True)
class VisionSteps:
    """The steps of a vision-language forward pass that depend on how many groups of trials share it.

    Rows of several groups lie one group after the other: (groups x rows, ...).

    `read_images(model, inputs, groups)` runs the vision tower on the pictures of a batch, once for each group. It
    returns the features for the image tokens, in the order of the tokens, and then one tensor for each of the first
    language blocks whose output DeepStack adds to; each is (groups x image tokens, width), for as many groups as the
    tower had where the feature was computed.
    `as_encoder_output(features)` wraps such features as the model's `mm_encoder_outputs["image"]`.
    `repeat_block_arguments(arguments, times)` makes the keyword arguments of a vision block valid for `times` as many
    patches.
    `positions(model, inputs)` returns positions (axes, rows, tokens), and by how much the positions of generated
    tokens differ from their place in the row (rows, 1).
    """

    read_images: Callable[[Any, Inputs, int], tuple[torch.Tensor, ...]]
    as_encoder_output: Callable[[Sequence[torch.Tensor]], object]
    repeat_block_arguments: Callable[[Mapping[str, Any], int], dict[str, Any]]
    positions: Callable[[Any, Inputs], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class SharedForwardSteps:
    """Says that trials of a family can share forward passes, and how; text alone needs no step of its own."""

    vision: VisionSteps | None = None


def no_modules(_: Config) -> tuple[str, ...]:
    """Return nothing: the family has no layer outside its blocks but the vocabulary's."""
    return ()


def answers_only() -> dict[str, Any]:
    """Ask a template that can render thoughts (Qwen3) for answers alone: rows hold no thoughts."""
    return {"enable_thinking": False}


@dataclass(frozen=True)
class Family:
    """The facts about one model family that other parts of the package rely on.

    Without `shared_forward` trials of the family train one after another on the resident base.
    """

    # The class in transformers, and the path of its decoder: embed_tokens, layers, rotary_emb.
    model_class: str
    decoder: str
    # The linears of each block, first to last, from `config.json`; a family of text has no vision block.
    towers: Callable[[Config], Towers]
    shared_forward: SharedForwardSteps | None
    # Layers that LoRA could adapt but never does here: they belong to no block. `lm_head` is outside in every family.
    outside: Callable[[Config], tuple[str, ...]] = no_modules
    # Pictures: the image processor in transformers, the token that stands for an image feature, and the input that
    # marks those tokens with 1.
    image_processor_class: str | None = None
    image_token: str | None = None
    image_token_mask: str | None = None
    # Variables given to the chat template.
    template_variables: Mapping[str, Any] = field(default_factory=answers_only)
    # Axes of `position_ids` of packed text: the model separates packed rows by the first and rotates by the others.
    packed_position_axes: int = 1
    # The key of config.json with the limit that soft-capping keeps logits below.
    logit_limit_key: str | None = None

    @property
    def sees(self) -> bool:
        """True when its models take pictures."""
        return self.image_processor_class is not None


def decoder_layers(prefix: str, text: Config) -> Blocks:
    """List the linears of a decoder's layers, which lie at `prefix`.0, `prefix`.1, ..."""
    return tuple(_decoder_layer(f"{prefix}.{index}", text) for index in range(text["num_hidden_layers"]))


def _decoder_layer(prefix: str, text: Config) -> tuple[LinearShape, ...]:
    hidden, feed_forward = text["hidden_size"], text["intermediate_size"]
    head_dim = text.get("head_dim") or hidden // text["num_attention_heads"]
    key_heads = text.get("num_key_value_heads") or text["num_attention_heads"]
    queries, keys = text["num_attention_heads"] * head_dim, key_heads * head_dim
    return (
        LinearShape(f"{prefix}.self_attn.q_proj", hidden, queries),
        LinearShape(f"{prefix}.self_attn.k_proj", hidden, keys),
        LinearShape(f"{prefix}.self_attn.v_proj", hidden, keys),
        LinearShape(f"{prefix}.self_attn.o_proj", queries, hidden),
        LinearShape(f"{prefix}.mlp.gate_proj", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.up_proj", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.down_proj", feed_forward, hidden),
    )

"""The description of a model family: plain values and functions, importable without torch."""

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
    """One linear layer: its full module name, input width and output width."""

    name: str
    inputs: int
    outputs: int


Blocks = tuple[tuple[LinearShape, ...], ...]
Towers = dict[TowerName, Blocks]


@dataclass(frozen=True)
class VisionSteps:
    """The steps of a vision-language forward pass that depend on the number of groups of trials in it.

    A tensor for several groups holds the rows of one group after the other: (groups x rows, ...).

    `read_images(model, inputs, groups)` runs the vision tower on the images of a batch, once for each group. It returns
    the features of the image tokens, in the order of the tokens, and then one tensor for each of the first language
    blocks to whose output DeepStack adds features. Each tensor is (groups x image tokens, width), for the number of
    groups in the tower at the block that computes it.
    `as_encoder_output(features)` wraps these features as the model's `mm_encoder_outputs["image"]`.
    `repeat_block_arguments(arguments, times)` returns the keyword arguments of a vision block for `times` as many
    patches.
    `positions(model, inputs)` returns the positions (axes, rows, tokens), and the offset of the positions of generated
    tokens from their index in the row (rows, 1).
    """

    read_images: Callable[[Any, Inputs, int], tuple[torch.Tensor, ...]]
    as_encoder_output: Callable[[Sequence[torch.Tensor]], object]
    repeat_block_arguments: Callable[[Mapping[str, Any], int], dict[str, Any]]
    positions: Callable[[Any, Inputs], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class SharedForwardSteps:
    """How trials of a family share forward passes; text-only families need no special steps."""

    vision: VisionSteps | None = None


def no_modules(_: Config) -> tuple[str, ...]:
    """Return no names: only embeddings and head are outside the blocks."""
    return ()


def answers_only() -> dict[str, Any]:
    """Return template variables that turn off thinking (Qwen3), because rows contain no thoughts."""
    return {"enable_thinking": False}


@dataclass(frozen=True)
class Family:
    """Everything that the package needs to know about one model family.

    Without `shared_forward`, trials of the family train one after another on the loaded base.
    """

    # The class in transformers, and the module path of its decoder, which has embed_tokens, layers and rotary_emb.
    model_class: str
    decoder: str
    # Computes the linears of each block, first to last, from `config.json`; a text-only family has no vision block.
    towers: Callable[[Config], Towers]
    shared_forward: SharedForwardSteps | None
    # Computes the names of linears outside all blocks, which never carry LoRA; `lm_head` is outside in every family.
    outside: Callable[[Config], tuple[str, ...]] = no_modules
    # Images: the image processor in transformers, the placeholder token of an image feature, and the name of the model
    # input that is 1 at these tokens.
    image_processor_class: str | None = None
    image_token: str | None = None
    image_token_mask: str | None = None
    # Variables passed to the chat template.
    template_variables: Mapping[str, Any] = field(default_factory=answers_only)
    # Axes of `position_ids` for packed text: the first separates the packed rows, the others are for rotary embeddings.
    packed_position_axes: int = 1
    # The key in config.json of the limit for soft-capping of logits.
    logit_limit_key: str | None = None

    @property
    def sees(self) -> bool:
        """True when models of the family take images."""
        return self.image_processor_class is not None


def decoder_layers(prefix: str, text: Config) -> Blocks:
    """Return the linears of the decoder layers, which are at `prefix`.0, `prefix`.1, ..."""
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

"""The description of a model family: plain values and functions, importable without torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

TowerName = Literal["language", "vision"]
TOWERS: tuple[TowerName, ...] = ("language", "vision")
Config = Mapping[str, Any]  # `config.json` of a base
# Names of weights that a model does not read: a buffer that older releases of transformers saved in every layer, and
# the extra layers that predict several tokens at once.
ROTARY_FREQUENCIES = r"(^|\.)rotary_emb\.inv_freq$"
MULTI_TOKEN_PREDICTION = r"^(model\.)?mtp\."  # noqa: S105
# A prefix that wrappers add once more, and what transformers reads instead.
SECOND_PREFIX = ((r"^model\.model\.", "model."), (r"^model\.lm_head\.", "lm_head."))
Inputs = Mapping[str, "torch.Tensor"]  # of a batch, as the model's forward takes them


@dataclass(frozen=True)
class LinearShape:
    """One linear layer: its full module name, input width and output width.

    With `experts` above 1 it is a 3-D parameter (experts, outputs, inputs), and the name is that of the parameter.
    """

    name: str
    inputs: int
    outputs: int
    experts: int = 1


Blocks = tuple[tuple[LinearShape, ...], ...]
Towers = dict[TowerName, Blocks]
Shapes = dict[str, tuple[int, ...]]  # of weights, by their full names in the model


class ExpertTowers(dict[TowerName, Blocks]):
    """Towers whose language layers also hold experts: `experts` are the parameters of each layer, first to last."""

    def __init__(self, towers: Towers, experts: Blocks) -> None:
        super().__init__(towers)
        self.experts = experts


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
    `taps(model)` returns, for each such tensor of DeepStack, the number of the vision block whose output it is computed
    from, and the module that computes it.
    """

    read_images: Callable[[Any, Inputs, int], tuple[torch.Tensor, ...]]
    as_encoder_output: Callable[[Sequence[torch.Tensor]], object]
    repeat_block_arguments: Callable[[Mapping[str, Any], int], dict[str, Any]]
    positions: Callable[[Any, Inputs], tuple[torch.Tensor, torch.Tensor]]
    taps: Callable[[Any], Sequence[tuple[int, torch.nn.Module]]]


def decoder_keys_and_values(layer: Any, hidden: Any, rotations: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the keys and values (rows, heads, tokens, width) of a layer for `hidden` (rows, tokens, width).

    `rotations` are the cosines and sines of the rotary embedding. This is how the attention of every decoder here
    computes them; most have no norm of the keys, and some layers of SmolLM3 have no positions.
    """
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    heads = (*hidden.shape[:-1], -1, attention.head_dim)
    keys, values = attention.k_proj(normed).view(heads), attention.v_proj(normed).view(heads)
    if hasattr(attention, "k_norm"):
        keys = attention.k_norm(keys)
    keys = keys.transpose(1, 2)
    if not getattr(attention, "use_rope", True):
        return keys, values.transpose(1, 2)
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    _, keys = rotate(keys[:, :0], keys, *rotations)  # of no query
    return keys, values.transpose(1, 2)


@dataclass(frozen=True)
class SharedForwardSteps:
    """How trials of a family share forward passes; text-only families need no special steps.

    `keys_and_values(layer, hidden, rotations)` computes the keys and values of the last decoder layer, whose other
    parts then run only where a label is predicted; None if the layer cannot be run that way, so that it computes all.
    """

    vision: VisionSteps | None = None
    keys_and_values: Callable[[Any, Any, tuple[Any, Any]], tuple[Any, Any]] | None = decoder_keys_and_values


@dataclass(frozen=True)
class PictureText:
    """What stands in a conversation for a picture, in families where it is more than one token, repeated.

    `placeholder` is what the chat template writes for a picture. `expanded(config, features)` returns the text that
    takes its place before the conversation is tokenized; `features` are what the image processor makes of this picture
    alone. `inputs` are those of the features that the model reads; those of a batch are joined along `joined_axis`.
    `options` are what transformers' processor of the family passes to its image processor.
    """

    placeholder: str
    expanded: Callable[[Config, Mapping[str, Any]], str]
    inputs: tuple[str, ...] = ("pixel_values",)
    joined_axis: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def block_name(block: Sequence[LinearShape]) -> str:
    """Return the name of the module of a block: the common path of its linears."""
    parts = zip(*(linear.name.split(".") for linear in block), strict=False)
    return ".".join(one[0] for one in takewhile(lambda alike: len(set(alike)) == 1, parts))


def no_taps(_: Any) -> tuple[()]:
    """Return no DeepStack levels."""
    return ()


def no_modules(_: Config) -> tuple[str, ...]:
    """Return no names: only embeddings and head are outside the blocks."""
    return ()


def no_weights(_: Config) -> frozenset[str]:
    """Return no names: which weights a base may hold beside those of the model does not depend on config.json."""
    return frozenset()


def no_layouts(_: Config) -> tuple[()]:
    """Return no other layouts: the files hold every weight in the shape of the model."""
    return ()


def merged_patches(config: Config) -> int:
    """Return how many patches Qwen's vision towers merge into one token: a square of `spatial_merge_size`, or 2."""
    return int((config.get("vision_config") or {}).get("spatial_merge_size", 2)) ** 2


def not_tied(config: Config) -> bool:
    """Return `tie_word_embeddings`, which is false unless config.json sets it."""
    return bool(config.get("tie_word_embeddings", False))


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
    # Computes the shapes of all other weights: norms, biases, embedding, head, and the layers outside the towers.
    other_weights: Callable[[Config], Shapes]
    shared_forward: SharedForwardSteps | None
    # Computes the names of linears outside all blocks, which never carry LoRA; `lm_head` is outside in every family.
    outside: Callable[[Config], tuple[str, ...]] = no_modules
    # Images: the image processor in transformers, the placeholder token of an image feature, and the name of the model
    # input that is 1 at these tokens.
    image_processor_class: str | None = None
    image_token: str | None = None
    image_token_mask: str | None = None
    # None where the image token, repeated, is all that stands for a picture: as many tokens as `image_grid_thw` says.
    picture_text: PictureText | None = None
    # True when the chat template reads the content of a turn only as a list of parts, not as a string.
    content_as_parts: bool = False
    # Computes from config.json how many patches of the vision tower become one token of a picture.
    patches_per_token: Callable[[Config], int] = merged_patches
    # Variables passed to the chat template.
    template_variables: Mapping[str, Any] = field(default_factory=answers_only)
    # Tokens that end an answer where the template writes none after it; training writes the first of them.
    answer_ends: tuple[str, ...] = ()
    # Axes of `position_ids` for packed text: the first separates the packed rows, the others are for rotary embeddings.
    packed_position_axes: int = 1
    # False when rows in one sequence would not be separate: linear attention carries its state from row to row.
    packs_rows: bool = True
    # The key in config.json of the limit for soft-capping of logits.
    logit_limit_key: str | None = None
    # True when the head is the embedding, so that a base need not hold both.
    is_tied: Callable[[Config], bool] = not_tied
    # Other names that transformers knows for a weight: patterns and what they become, applied one after the other.
    renamed_weights: tuple[tuple[str, str], ...] = ()
    # Computes what a base may hold in place of its experts' parameters, by the names in the file after renaming.
    stored_experts: Callable[[Config], Sequence[Shapes]] = no_layouts
    # Patterns of the names of weights that a base may hold and that the model does not read.
    ignored_weights: tuple[str, ...] = ()
    # Computes from config.json the names of more such weights.
    unread_weights: Callable[[Config], frozenset[str]] = no_weights
    # Tokens of the published tokenizers that have no row in the embedding; a row of data must not use them.
    tokens_without_embedding: tuple[str, ...] = ()
    # The decoders that it can have, by `model_type` in `text_config`; empty where the family has one of its own.
    decoder_types: tuple[str, ...] = ()

    @property
    def sees(self) -> bool:
        """True when models of the family take images."""
        return self.image_processor_class is not None

    def weights(self, config: Config) -> Shapes:
        """Return the shapes of all weights of the model; linears are (outputs, inputs)."""
        linears = (linear for blocks in self.towers(config).values() for block in blocks for linear in block)
        return {f"{one.name}.weight": (one.outputs, one.inputs) for one in linears} | self.other_weights(config)

    def experts(self, config: Config) -> Shapes:
        """Return the shapes of the experts' parameters: (experts, outputs, inputs); a dense family has none."""
        towers = self.towers(config)
        blocks = towers.experts if isinstance(towers, ExpertTowers) else ()
        return {one.name: (one.experts, one.outputs, one.inputs) for block in blocks for one in block}

    def name_in_model(self, stored: str) -> str:
        """Return the name in the model of a weight that a file holds as `stored`."""
        for pattern, name in self.renamed_weights:
            stored = re.sub(pattern, name, stored)
        return stored

    def ignores(self, weight: str) -> bool:
        """True when a base may hold a weight of this name although the model does not read it."""
        return any(re.search(pattern, weight) for pattern in self.ignored_weights)


def every_layer(text: Config, usual: Iterable[str]) -> tuple[str, ...]:
    """Return the kind of each layer: `layer_types`, or the usual ones where config.json does not give them.

    Raises:
        ValueError: config.json gives the kinds of more or fewer layers than there are.
    """
    given = tuple(text.get("layer_types") or usual)
    if len(given) != text["num_hidden_layers"]:
        raise ValueError(f"`layer_types` is of {len(given)} layers where there are {text['num_hidden_layers']}")
    return given


def decoder_layers(prefix: str, text: Config) -> Blocks:
    """Return the linears of the decoder layers, which are at `prefix`.0, `prefix`.1, ..."""
    return tuple(_decoder_layer(f"{prefix}.{index}", text) for index in range(text["num_hidden_layers"]))


def head_width(text: Config) -> int:
    """Return the width of an attention head of a decoder."""
    return text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]


def _decoder_layer(prefix: str, text: Config) -> tuple[LinearShape, ...]:
    hidden, feed_forward = text["hidden_size"], text["intermediate_size"]
    key_heads = text.get("num_key_value_heads") or text["num_attention_heads"]
    queries, keys = text["num_attention_heads"] * head_width(text), key_heads * head_width(text)
    return (
        LinearShape(f"{prefix}.self_attn.q_proj", hidden, queries),
        LinearShape(f"{prefix}.self_attn.k_proj", hidden, keys),
        LinearShape(f"{prefix}.self_attn.v_proj", hidden, keys),
        LinearShape(f"{prefix}.self_attn.o_proj", queries, hidden),
        LinearShape(f"{prefix}.mlp.gate_proj", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.up_proj", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.down_proj", feed_forward, hidden),
    )

"""The FLOP model: counts the FLOPs of a training step for any Qwen3-VL, any batch and any way of sharing.

One multiply-add is 2 FLOPs. A frozen linear of P weights costs 2 P per token forward and 2 P backward (no gradient of
its weights). Causal attention costs half of the full square forward and 2.5 times that backward. Norms, activations,
rotary embeddings, dequantization, the optimizer and everything but arithmetic are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.data.encoding import Batch


ATTENTION_BACKWARD = 2.5  # times its forward, because attention weights are recomputed


@dataclass(frozen=True)
class Architecture:
    """The sizes of one Qwen3-VL: widths in values; `taps` are the vision blocks whose outputs DeepStack reads."""

    hidden: int
    layers: int
    queries: int
    keys: int
    feed_forward: int
    vocabulary: int
    vision_hidden: int
    blocks: int
    vision_feed_forward: int
    taps: tuple[int, ...]
    patch_values: int
    patches_per_token: int

    @classmethod
    def of(cls, config: Any) -> Architecture:
        """Read the sizes from a transformers configuration."""
        text, vision = config.text_config, config.vision_config
        return cls(
            hidden=text.hidden_size,
            layers=text.num_hidden_layers,
            queries=text.num_attention_heads * text.head_dim,
            keys=text.num_key_value_heads * text.head_dim,
            feed_forward=text.intermediate_size,
            vocabulary=text.vocab_size,
            vision_hidden=vision.hidden_size,
            blocks=vision.depth,
            vision_feed_forward=vision.intermediate_size,
            taps=tuple(vision.deepstack_visual_indexes),
            patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
            patches_per_token=vision.spatial_merge_size**2,
        )

    @property
    def qkv_weights(self) -> int:
        """Count the weights that read a language layer's input: queries, keys, values."""
        return self.hidden * (self.queries + 2 * self.keys)

    @property
    def layer_weights(self) -> int:
        """Count the weights of one language layer's linears."""
        return self.qkv_weights + self.queries * self.hidden + 3 * self.hidden * self.feed_forward

    @property
    def block_weights(self) -> int:
        """Count the weights of one vision block's linears."""
        return 4 * self.vision_hidden**2 + 2 * self.vision_hidden * self.vision_feed_forward

    @property
    def merger_weights(self) -> int:
        """Count the weights of one merger, which reads `patches_per_token` patches and writes a language token."""
        wide = self.patches_per_token * self.vision_hidden
        return wide**2 + wide * self.hidden

    @property
    def layer_widths(self) -> int:
        """Sum inputs and outputs of one language layer's linears, which is the number of LoRA parameters at rank 1."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        return attention + 3 * (self.hidden + self.feed_forward)

    @property
    def block_widths(self) -> int:
        """Sum inputs and outputs of one vision block's linears."""
        return 4 * self.vision_hidden + 2 * self.vision_hidden + 2 * (self.vision_hidden + self.vision_feed_forward)


@dataclass(frozen=True)
class Counts:
    """The counts of one batch: padded tokens per row, tokens before the first picture, labels and patches of all rows.

    `patch_pairs` sums the squared number of patches of every picture, since the vision tower attends within a picture.
    """

    rows: int
    row_tokens: int
    prefix_tokens: int
    labels: int
    patches: int
    patch_pairs: int

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        """Count a batch with pictures; the prefix is counted as `shared_prefix` does."""
        from trainables.cohort.shared_prefix import common_tokens

        pictures = batch.inputs["image_grid_thw"].prod(dim=-1).tolist()
        return cls(
            rows=len(batch.labels),
            row_tokens=batch.labels.shape[1],
            prefix_tokens=common_tokens(batch.inputs["mm_token_type_ids"], batch.labels),
            labels=batch.supervised_tokens,
            patches=int(sum(pictures)),
            patch_pairs=int(sum(one * one for one in pictures)),
        )

    @property
    def tokens(self) -> int:
        """Return the tokens of all rows, including padding, which is computed too."""
        return self.rows * self.row_tokens


@dataclass(frozen=True)
class Arm:
    """A trial of the FLOP model: how many of the last layers of each tower carry LoRA, and its rank."""

    language: int
    vision: int
    rank: int


@dataclass(frozen=True)
class Cost:
    """FLOPs of one architecture on one batch; `attention=0` counts linears only, as PyTorch's counter does on a CPU."""

    architecture: Architecture
    counts: Counts
    attention: float = 1.0

    # ---------------------------------------------------------------- pieces
    def layer_forward(self, start: int = 0) -> float:
        """Return the FLOPs of one language layer, forward, for tokens from `start` on, which attend to all earlier."""
        own, counts = self.architecture, self.counts
        linears = 2 * own.layer_weights * (counts.row_tokens - start)
        attention = 2 * own.queries * (counts.row_tokens**2 - start**2)
        return counts.rows * (linears + self.attention * attention)

    def layer_backward(self, start: int = 0) -> float:
        """Return the FLOPs of the gradients to the inputs of one language layer."""
        own, counts = self.architecture, self.counts
        linears = 2 * own.layer_weights * (counts.row_tokens - start)
        attention = ATTENTION_BACKWARD * 2 * own.queries * (counts.row_tokens**2 - start**2)
        return counts.rows * (linears + self.attention * attention)

    def prefix_forward(self) -> float:
        """Return the FLOPs of one language layer, forward, for the tokens before the first picture only."""
        own, counts = self.architecture, self.counts
        tokens = counts.prefix_tokens
        return counts.rows * (2 * own.layer_weights * tokens + self.attention * 2 * own.queries * tokens**2)

    def block_forward(self) -> float:
        """Return the FLOPs of one vision block, forward."""
        own, counts = self.architecture, self.counts
        return 2 * own.block_weights * counts.patches + self.attention * 4 * own.vision_hidden * counts.patch_pairs

    def block_backward(self) -> float:
        """Return the FLOPs of the gradients to the inputs of one vision block."""
        own, counts = self.architecture, self.counts
        attention = ATTENTION_BACKWARD * 4 * own.vision_hidden * counts.patch_pairs
        return 2 * own.block_weights * counts.patches + self.attention * attention

    def merger(self) -> float:
        """Return the FLOPs of one merger, forward or backward."""
        return 2 * self.architecture.merger_weights * self.counts.patches / self.architecture.patches_per_token

    def patches_embedded(self) -> float:
        """Return the FLOPs of the projection of raw patches."""
        return 2 * self.architecture.patch_values * self.architecture.vision_hidden * self.counts.patches

    def head(self, tokens: int) -> float:
        """Return the FLOPs of the projection of `tokens` to the vocabulary, forward and the gradient to its input."""
        return 4 * self.architecture.hidden * self.architecture.vocabulary * tokens

    def adapter(self, arm: Arm, rank: int) -> float:
        """Return the FLOPs of LoRA, forward and the gradients of its factors and inputs, padded to `rank`."""
        own, counts = self.architecture, self.counts
        language = arm.language * own.layer_widths * counts.tokens
        return 6 * rank * (language + arm.vision * own.block_widths * counts.patches)

    # ---------------------------------------------------------------- recipes
    def solo(self, arm: Arm) -> float:
        """Return the FLOPs of one trial alone: no gradient below its lowest adapter, logits for labels only."""
        return self.one_pass([arm], share=False)

    def stock(self, arm: Arm) -> float:
        """Return the FLOPs of one trial by PEFT's default k-bit preparation.

        Every language layer is computed forward twice and backward, with logits of all tokens, since a hook makes the
        text embeddings differentiable. With reentrant checkpointing no gradient reaches the vision tower, so vision
        adapters are computed but not trained.
        """
        own, counts = self.architecture, self.counts
        vision = own.blocks * self.block_forward() + (1 + len(own.taps)) * self.merger() + self.patches_embedded()
        language = own.layers * (2 * self.layer_forward() + self.layer_backward())
        adapted = (
            8 * arm.language * own.layer_widths * counts.tokens + 2 * arm.vision * own.block_widths * counts.patches
        )
        return vision + language + self.head(counts.tokens) + arm.rank * adapted

    def one_pass(self, arms: Sequence[Arm], share: bool) -> float:
        """Return the FLOPs of one forward and one backward for all `arms`, as `shared_forward` computes them.

        Arms share a group until the first block that one of them adapts. From the first adapted block on, gradients
        are computed for every group of the pass.
        """
        rank = max(arm.rank for arm in arms)
        adapters = sum(self.adapter(arm, rank) for arm in arms)
        groups = len(arms) if not share else _groups(self._separate(arms, self.architecture.layers), len(arms))
        return (
            self._vision(arms, share) + self._language(arms, share) + self.head(self.counts.labels) * groups + adapters
        )

    def passes(self, arms: Sequence[Arm], cut: Sequence[Sequence[int]], share: bool) -> float:
        """Return the FLOPs of a cohort's step: a pass for each list of arm numbers in `cut`."""
        return sum(self.one_pass([arms[number] for number in numbers], share) for numbers in cut)

    def _vision(self, arms: Sequence[Arm], share: bool) -> float:
        own = self.architecture
        starts = [own.blocks - arm.vision for arm in arms]
        lowest = min(starts)
        groups = [
            _groups([start <= i for start in starts], len(arms)) if share else len(arms) for i in range(own.blocks)
        ]
        total = self.patches_embedded() * (1 if share else len(arms))
        for index, count in enumerate(groups):
            mergers = (index in own.taps) + (index == own.blocks - 1)
            total += count * (self.block_forward() + mergers * self.merger())
            if index >= lowest:
                total += count * (self.block_backward() + mergers * self.merger())
        if lowest < own.blocks:  # nothing below needs a gradient
            total -= groups[lowest] * 2 * 3 * own.vision_hidden**2 * self.counts.patches
        return total

    def _language(self, arms: Sequence[Arm], share: bool) -> float:
        own, sees = self.architecture, any(arm.vision for arm in arms)
        lowest = own.layers - max(arm.language for arm in arms)
        entering = _groups(self._separate(arms, -1), len(arms)) if share else len(arms)
        start = self.counts.prefix_tokens if share and entering > 1 and lowest >= len(own.taps) else 0
        total = lowest * self.prefix_forward() if start else 0.0
        for index in range(own.layers):
            count = _groups(self._separate(arms, index), len(arms)) if share else len(arms)
            first = start if index < lowest else 0
            total += count * self.layer_forward(first)
            if sees or index >= lowest:
                total += count * self.layer_backward(first)
            if index == lowest and not sees:
                total -= count * 2 * own.qkv_weights * self.counts.tokens
        return total

    def _separate(self, arms: Sequence[Arm], layer: int) -> list[bool]:
        # an arm that adapts the vision tower, or a layer to which DeepStack adds, differs from the first layer on
        own = self.architecture
        starts = [own.layers - arm.language for arm in arms]
        return [
            bool(arm.vision) or start < len(own.taps) or start <= layer for arm, start in zip(arms, starts, strict=True)
        ]


def _groups(separate: Sequence[bool], members: int) -> int:
    return sum(separate) + (sum(separate) < members)

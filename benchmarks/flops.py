"""The FLOP model: counts the FLOPs of a training step for any Qwen3-VL or text-only decoder, and any way of sharing.

One multiply-add is 2 FLOPs. A frozen linear of P weights costs 2 P per token forward and 2 P backward (no gradient of
its weights). Causal attention costs half of the full square forward and 2.5 times that backward. Norms, activations,
rotary embeddings, dequantization, the optimizer and everything but arithmetic are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.architecture import Architecture, Counts

ATTENTION_BACKWARD = 2.5  # times its forward, because attention weights are recomputed


@dataclass(frozen=True)
class Arm:
    """A trial of the FLOP model: how many of the last layers of each tower carry LoRA, and its rank."""

    language: int
    vision: int
    rank: int


@dataclass(frozen=True)
class Way:
    """How a pass is computed.

    `share`: what arms have in common once. `last_for_labels`: the last layer only where a label is predicted. `kept`:
    hidden states at the cut are at hand, so that nothing below the lowest adapter of a pass is computed.
    """

    share: bool = True
    last_for_labels: bool = True
    kept: bool = False


ALONE = Way(share=False, last_for_labels=False)
APART = Way(share=False)
SHARED = Way()
KEPT = Way(kept=True)


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

    def last_forward(self, start: int = 0) -> float:
        """Return the FLOPs of the last language layer, forward, computed where labels are predicted.

        Keys and values are computed for tokens from `start` on, and once more for the positions of labels.
        """
        own, counts = self.architecture, self.counts
        keys = 2 * own.key_value_weights * (counts.row_tokens - start)
        rest = 2 * own.layer_weights * counts.row_labels + self.attention * self._last_attention()
        return counts.rows * (keys + rest)

    def last_backward(self, start: int = 0) -> float:
        """Return the FLOPs of the gradients to the inputs of the last language layer, of which labels read a part."""
        own, counts = self.architecture, self.counts
        keys = 2 * own.key_value_weights * (counts.row_tokens - start)
        rest = 2 * (own.layer_weights - own.key_value_weights) * counts.row_labels
        return counts.rows * (keys + rest + self.attention * ATTENTION_BACKWARD * self._last_attention())

    def _last_attention(self) -> float:
        return 4 * self.architecture.queries * self.counts.row_labels * self.counts.row_tokens

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

    def adapter(self, arm: Arm, rank: int, last_for_labels: bool) -> float:
        """Return the FLOPs of LoRA, forward and the gradients of its factors and inputs, padded to `rank`."""
        own, counts = self.architecture, self.counts
        language = arm.language * own.layer_widths * counts.tokens
        if arm.language and last_for_labels:
            language -= (own.layer_widths - own.key_value_widths) * (counts.tokens - counts.predicting)
        return 6 * rank * (language + arm.vision * own.block_widths * counts.patches)

    # ---------------------------------------------------------------- recipes
    def solo(self, arm: Arm) -> float:
        """Return the FLOPs of one trial alone: no gradient below its lowest adapter, logits for labels only."""
        return self.one_pass([arm], ALONE)

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

    def one_pass(self, arms: Sequence[Arm], way: Way = SHARED) -> float:
        """Return the FLOPs of one forward and one backward for all `arms`, as `shared_forward` computes them.

        Arms share a group until the first block that one of them adapts. A group has a backward from the lowest block
        on that its arm adapts; without sharing, all have it from the lowest of the pass on.
        """
        rank = max(arm.rank for arm in arms)
        adapters = sum(self.adapter(arm, rank, way.last_for_labels) for arm in arms)
        groups = self._language_groups(arms, self.architecture.layers, way.share)
        return self._vision(arms, way) + self._language(arms, way) + self.head(self.counts.labels) * groups + adapters

    def passes(self, arms: Sequence[Arm], cut: Sequence[Sequence[int]], way: Way = SHARED) -> float:
        """Return the FLOPs of a cohort's step: a pass for each list of arm numbers in `cut`."""
        return sum(self.one_pass([arms[number] for number in numbers], way) for numbers in cut)

    def over_epochs(self, arms: Sequence[Arm], cut: Sequence[Sequence[int]], epochs: float) -> float:
        """Return the mean FLOPs of a step over `epochs`; from the second on, hidden states at the cut are at hand."""
        first, later = (self.passes(arms, cut, way) for way in (SHARED, KEPT))
        return (first + (epochs - 1) * later) / epochs

    def _vision(self, arms: Sequence[Arm], way: Way) -> float:
        own = self.architecture
        starts = [own.blocks - arm.vision for arm in arms]
        lowest = min(starts, default=0)
        total = 0.0 if way.kept else self.patches_embedded() * (1 if way.share else len(arms))
        for index in range(lowest if way.kept else 0, own.blocks):
            apart = [start <= index for start in starts]
            groups = _groups(apart, len(arms)) if way.share else len(arms)
            mergers = (index in own.taps) + (index == own.blocks - 1)
            total += groups * (self.block_forward() + mergers * self.merger())
            if index >= lowest:
                graphs = sum(apart) if way.share else len(arms)
                total += graphs * self.block_backward() + groups * mergers * self.merger()
            if index == lowest:  # nothing below needs a gradient
                total -= graphs * 2 * 3 * own.vision_hidden**2 * self.counts.patches
        return total

    def _language(self, arms: Sequence[Arm], way: Way) -> float:
        own, sees = self.architecture, any(self._sees(arm) for arm in arms)
        lowest = own.layers - max(arm.language for arm in arms)
        parted = 0 if any(self._separate(arm, 0) for arm in arms) else lowest
        entering = self._language_groups(arms, -1, way.share)
        joins = way.share and entering > 1 and lowest >= self._taps and not way.kept
        start = self.counts.prefix_tokens if joins else 0
        total = lowest * self.prefix_forward() if start else 0.0
        if start and lowest == own.layers and way.last_for_labels:  # of the last layer only keys and values are read
            keys = 2 * own.key_value_weights * self.counts.prefix_tokens * self.counts.rows
            total += keys - self.prefix_forward()
        for index in range(parted if way.kept else 0, own.layers):
            first = start if index < lowest else 0
            forward, backward, read = self._layer(index, first, way)
            total += self._language_groups(arms, index, way.share) * forward
            if sees or index >= lowest:
                graphs = sum(self._sees(arm) or own.layers - arm.language <= index for arm in arms)
                total += (graphs if way.share else len(arms)) * (backward - (0 if sees or index > lowest else read))
        return total

    def _layer(self, index: int, start: int, way: Way) -> tuple[float, float, float]:
        # forward, backward, and what the gradients of the layer's input are of the latter
        own, counts = self.architecture, self.counts
        if index < own.layers - 1 or not way.last_for_labels:
            return self.layer_forward(start), self.layer_backward(start), 2 * own.qkv_weights * counts.tokens
        read = 2 * own.hidden * own.queries * counts.predicting + 2 * own.key_value_weights * counts.tokens
        return self.last_forward(start), self.last_backward(start), read

    def _language_groups(self, arms: Sequence[Arm], layer: int, share: bool) -> int:
        return _groups([self._separate(arm, layer) for arm in arms], len(arms)) if share else len(arms)

    def _separate(self, arm: Arm, layer: int) -> bool:
        # an arm that adapts the vision tower, or a layer to which DeepStack adds, differs from the first layer on
        start = self.architecture.layers - arm.language
        return self._sees(arm) or start < self._taps or start <= layer

    def _sees(self, arm: Arm) -> bool:
        return bool(arm.vision and self.counts.patches)

    @property
    def _taps(self) -> int:
        return len(self.architecture.taps) if self.counts.patches else 0


def _groups(separate: Sequence[bool], members: int) -> int:
    return sum(separate) + (sum(separate) < members)

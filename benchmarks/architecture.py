"""The sizes of a model and of a batch, from which the FLOP model counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.data.encoding import Batch


@dataclass(frozen=True)
class Architecture:
    """The sizes of one Qwen3-VL or text-only decoder: widths in values, 0 for the vision tower of the latter.

    `taps` are the vision blocks whose outputs DeepStack reads.
    """

    hidden: int
    layers: int
    queries: int
    keys: int
    feed_forward: int
    vocabulary: int
    vision_hidden: int = 0
    blocks: int = 0
    vision_feed_forward: int = 0
    taps: tuple[int, ...] = ()
    patch_values: int = 0
    patches_per_token: int = 1

    @classmethod
    def of(cls, config: Any) -> Architecture:
        """Read the sizes from a transformers configuration."""
        text, vision = config.get_text_config(), getattr(config, "vision_config", None)
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        decoder = {
            "hidden": text.hidden_size,
            "layers": text.num_hidden_layers,
            "queries": text.num_attention_heads * head,
            "keys": text.num_key_value_heads * head,
            "feed_forward": text.intermediate_size,
            "vocabulary": text.vocab_size,
        }
        if vision is None:
            return cls(**decoder)
        return cls(
            **decoder,
            vision_hidden=vision.hidden_size,
            blocks=vision.depth,
            vision_feed_forward=vision.intermediate_size,
            taps=tuple(vision.deepstack_visual_indexes),
            patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
            patches_per_token=vision.spatial_merge_size**2,
        )

    @property
    def key_value_weights(self) -> int:
        """Count the weights of one language layer's keys and values."""
        return self.hidden * 2 * self.keys

    @property
    def qkv_weights(self) -> int:
        """Count the weights that read a language layer's input: queries, keys, values."""
        return self.hidden * self.queries + self.key_value_weights

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
    def key_value_widths(self) -> int:
        """Sum inputs and outputs of the linears of one language layer's keys and values."""
        return 2 * (self.hidden + self.keys)

    @property
    def block_widths(self) -> int:
        """Sum inputs and outputs of one vision block's linears."""
        return 4 * self.vision_hidden + 2 * self.vision_hidden + 2 * (self.vision_hidden + self.vision_feed_forward)


@dataclass(frozen=True)
class Counts:
    """The counts of one batch: padded tokens per row, tokens before the first picture, labels and patches of all rows.

    `row_labels` are the most labels of one row: of so many positions in each the last layer is computed. `patch_pairs`
    sums the squared number of patches of every picture, since the vision tower attends within a picture.
    """

    rows: int
    row_tokens: int
    prefix_tokens: int
    labels: int
    row_labels: int
    patches: int = 0
    patch_pairs: int = 0

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        """Count a batch; the prefix is counted as `shared_prefix` does, the positions of labels as `label_rows`."""
        from trainables.cohort.label_rows import of_labels
        from trainables.cohort.shared_prefix import common_tokens

        selected, has_pictures = of_labels(batch), "image_grid_thw" in batch.inputs
        pictures = batch.inputs["image_grid_thw"].prod(dim=-1).tolist() if has_pictures else []
        return cls(
            rows=len(batch.labels),
            row_tokens=batch.labels.shape[1],
            prefix_tokens=common_tokens(batch.inputs["mm_token_type_ids"], batch.labels) if has_pictures else 0,
            labels=batch.supervised_tokens,
            row_labels=selected.places.shape[1] if selected else batch.labels.shape[1],
            patches=int(sum(pictures)),
            patch_pairs=int(sum(one * one for one in pictures)),
        )

    @property
    def tokens(self) -> int:
        """Return the tokens of all rows, including padding, which is computed too."""
        return self.rows * self.row_tokens

    @property
    def predicting(self) -> int:
        """Return the positions of all rows of which the last layer is computed."""
        return self.rows * self.row_labels

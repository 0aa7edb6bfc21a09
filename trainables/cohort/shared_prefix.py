"""Computes the text before the first image once for all groups: keys and values for the language layers.

Attention is causal, so these tokens do not depend on images or vision adapters. Below the lowest language adapter they
are the same for every trial and need no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.masking_utils import create_causal_mask

from trainables.cohort.label_rows import can_select, last_keys
from trainables.data.encoding import IGNORED
from trainables.model.base import Base

MIN_TOKENS = 4  # for fewer tokens the extra pass costs more than it saves


def has_full_attention(base: Base) -> bool:
    """Return whether all language layers use full causal attention, without sliding windows."""
    return set(getattr(base.decoder.config, "layer_types", None) or ("full_attention",)) == {"full_attention"}


def common_tokens(image_tokens: torch.Tensor, labels: torch.Tensor) -> int:
    """Count the tokens before the first image and the first prediction of any row; 0 if they are too few.

    `image_tokens` (rows, tokens) is nonzero at image tokens.
    """
    length = labels.shape[1]
    places = torch.arange(length, device=labels.device)
    first_image = torch.where(image_tokens != 0, places, length).min()
    first_label = torch.where(labels != IGNORED, places, length).min()
    tokens = int(torch.minimum(first_image, first_label - 1))
    return tokens if tokens >= MIN_TOKENS else 0


@dataclass
class FrozenPrefix:
    """The first `tokens` of every row, run through the language layers below block `first` (None: all layers).

    The pass computes only the tokens after it. At block `first` the prefix joins them, as adapters need all tokens.
    """

    base: Base
    inputs: Mapping[str, torch.Tensor]
    positions: torch.Tensor
    tokens: int
    keys: DynamicCache
    hidden: torch.Tensor
    full_arguments: dict[str, Any] = field(default_factory=dict)
    _caches: dict[tuple[int, bool], DynamicCache] = field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def run(
        cls, base: Base, inputs: Mapping[str, torch.Tensor], positions: torch.Tensor, tokens: int, first: int | None
    ) -> FrozenPrefix:
        """Compute the prefix of every row (rows, tokens) with the base without adapters."""
        decoder = base.decoder
        hidden = decoder.embed_tokens(inputs["input_ids"][:, :tokens])
        given = _token_arguments(base, hidden, inputs["attention_mask"][:, :tokens], positions[..., :tokens])
        keys = DynamicCache(config=decoder.config)
        last = len(decoder.layers) - 1
        for index, layer in enumerate(decoder.layers[:first]):
            if index == last and can_select(base):  # nothing but its keys and values is read
                keys.update(*last_keys(base, layer, hidden, given["position_embeddings"]), index)
                continue
            # `forward` skips the hooks of the layer, which would replicate the batch
            hidden = layer.forward(hidden, **given, past_key_values=keys)
        return cls(base, inputs, positions, tokens, keys, hidden)

    def cache(self, groups: int) -> DynamicCache:
        """Return the keys and values of the prefix for the rows of `groups` groups, for one pass.

        Groups without a graph and groups with one have different caches, because each layer adds to its own.
        """
        key = groups, torch.is_grad_enabled()
        if key not in self._caches:
            self._caches[key] = self._repeated(groups)
        return self._caches[key]

    def _repeated(self, groups: int) -> DynamicCache:
        index = torch.arange(len(self.hidden), device=self.hidden.device).repeat(groups)
        layers: Any = self.keys.layers
        pairs = [(layer.keys[index], layer.values[index]) for layer in layers if layer.is_initialized]
        return DynamicCache(pairs, config=self.base.decoder.config)

    def enter_block(
        self, hidden: torch.Tensor, kwargs: dict[str, Any], groups: int, adapted: bool
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Join the prefix before the first adapted block; from there the pass has all tokens and no cache."""
        if not self.full_arguments:
            if not adapted:
                return hidden, kwargs
            prefix = self.hidden.repeat(groups, 1, 1)
            hidden = torch.cat([prefix, hidden], dim=1)
            mask, positions = self.inputs["attention_mask"], self.positions
            given = _token_arguments(self.base, hidden, mask.repeat(groups, 1), positions.repeat(1, groups, 1))
            self.full_arguments = {**given, "past_key_values": None}
        return hidden, {**kwargs, **self.full_arguments}


def repeated(given: Any, rows: int, groups: int) -> Any:
    """Repeat the first group for `groups` groups: a tensor (groups x rows, ...), a tuple of them, or None."""
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(repeated(one, rows, groups) for one in given)
    return given[:rows].repeat(groups, *[1] * (given.dim() - 1))


def _token_arguments(
    base: Base, hidden: torch.Tensor, attention_mask: torch.Tensor, positions: torch.Tensor
) -> dict[str, Any]:
    decoder = base.decoder
    mask = create_causal_mask(
        config=decoder.config, inputs_embeds=hidden, attention_mask=attention_mask, past_key_values=None
    )
    return {
        "attention_mask": mask,
        "position_ids": None,
        "position_embeddings": decoder.rotary_emb(hidden, positions),
    }

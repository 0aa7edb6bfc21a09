"""Computes the last language layer only at the positions whose outputs are read: those that predict a label.

Attention there is as in decoding: the keys and values of all tokens are at hand, and the selected tokens are the
queries. Queries, output projection, norms and MLP then cost as much as the selected tokens. The layer itself runs on
them, so a family needs only say how its keys and values are computed (`SharedForwardSteps.keys_and_values`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.encoding import Batch
from trainables.model.base import Base

# FlashAttention takes no mask for queries at any position
MASKED = ("sdpa", "eager")
PER_TOKEN = ("position_ids", "position_embeddings")


@dataclass(frozen=True)
class Selection:
    """Selected positions of each row of a batch, the same for every group.

    `places` (rows, most) are positions in a row of `tokens` tokens. Rows with fewer selected positions are filled up
    with others; `used` are the numbers of the selected ones in (rows x most).
    """

    places: torch.Tensor
    used: torch.Tensor
    tokens: int

    def flat(self, groups: int, skipped: int = 0) -> torch.Tensor:
        """Return the positions as numbers of rows in (groups x rows x tokens), without the first `skipped` tokens."""
        rows, length = len(self.places), self.tokens - skipped
        starts = torch.arange(groups * rows, device=self.places.device) * length
        return ((self.places - skipped).repeat(groups, 1) + starts[:, None]).flatten()


@dataclass(frozen=True)
class GivenKeys:
    """Stands for the cache of a layer whose keys and values are known."""

    keys: torch.Tensor
    values: torch.Tensor

    def update(self, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the known keys and values; those of the selected tokens are among them."""
        return self.keys, self.values


def of_labels(batch: Batch) -> Selection | None:
    """Select the positions that predict a label; None if they are all positions but the last.

    They are found on the host, so that a pass does not wait for the device.
    """
    supervised, device = batch.is_supervised, batch.labels.device
    counts = supervised.sum(axis=1)
    most = max(1, int(counts.max()))
    if most >= supervised.shape[1]:
        return None
    places = np.argsort(~supervised, axis=1, kind="stable")[:, :most]
    used = np.arange(most) < counts[:, None]
    # filled up with the last position, because a pass may lack the first ones
    filled = np.where(used, places, supervised.shape[1])
    return Selection(on_device(filled, device), on_device(np.flatnonzero(used), device), supervised.shape[1] + 1)


def on_device(values: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Move numbers of the host to a device, without waiting for work that the device has been given before."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def of_last(tokens: torch.Tensor) -> Selection:
    """Select the last position of each row of `tokens` (rows, tokens)."""
    places = torch.full((len(tokens), 1), tokens.shape[1] - 1, device=tokens.device)
    return Selection(places, torch.arange(len(tokens), device=tokens.device), tokens.shape[1])


def can_select(base: Base) -> bool:
    """Return whether the last layer of a base can be computed at selected positions."""
    steps = base.family.shared_forward
    attention = base.model.config.get_text_config()._attn_implementation
    return steps is not None and steps.keys_and_values is not None and attention in MASKED


def last_keys(base: Base, layer: Any, hidden: torch.Tensor, rotations: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys and values of the last layer for all of `hidden` (rows, tokens, width)."""
    steps = base.family.shared_forward
    assert steps is not None and steps.keys_and_values is not None
    return steps.keys_and_values(layer, hidden, rotations)


def selected_inputs(
    base: Base, layer: Any, hidden: torch.Tensor, kwargs: Mapping[str, Any], selection: Selection
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Compute keys and values of all tokens; return the inputs of the layer for the selected tokens alone.

    `hidden` (groups x rows, tokens, width) may lack the first tokens of a row, whose keys and values are in the cache.
    """
    keys, values = last_keys(base, layer, hidden, kwargs["position_embeddings"])
    cache = kwargs.get("past_key_values")
    if cache is not None:
        keys, values = cache.update(keys, values, layer.self_attn.layer_idx)
    count = len(hidden) // len(selection.places)
    index = selection.flat(count, selection.tokens - hidden.shape[1])
    chosen = {name: _at(index, kwargs.get(name), len(hidden)) for name in PER_TOKEN}
    mask = _mask(kwargs.get("attention_mask"), index, selection, count, keys.shape[2])
    given = {**kwargs, **chosen, "attention_mask": mask, "past_key_values": GivenKeys(keys, values)}
    return _at(index, hidden, len(hidden)), given


def _at(index: torch.Tensor, given: Any, rows: int) -> Any:
    # (rows, tokens, ...) to (rows, selected, ...)
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(_at(index, one, rows) for one in given)
    return given.flatten(0, 1).index_select(0, index).view(rows, -1, *given.shape[2:])


def _mask(mask: torch.Tensor | None, index: torch.Tensor, selection: Selection, count: int, keys: int) -> torch.Tensor:
    if mask is None:  # causal attention without padding
        places = selection.places.repeat(count, 1) + keys - selection.tokens
        allowed = torch.arange(keys, device=places.device) <= places[..., None]
        return allowed[:, None]
    rows = count * len(selection.places)
    return _at(index, mask.expand(rows, -1, -1, -1)[:, 0], rows)[:, None]

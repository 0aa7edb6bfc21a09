"""Dropout whose masks depend only on seed, step, layer and rate, not on which trials share a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch


@dataclass
class Masks:
    """Draws the dropout masks of one trial; the trainer sets `step` and `micro_step` before each batch.

    A mask is a function of seed, step, micro step, rate and layer. Trials that differ only in learning rate or
    placement therefore use common random numbers, and a resumed trial draws the same masks as an uninterrupted one.
    """

    seed: int
    rate: float
    step: int = 0
    micro_step: int = 0

    @property
    def key(self) -> str:
        """Return all that determines a mask except the layer, as text; equal keys mean equal masks."""
        return f"{self.seed}/{self.step}/{self.micro_step}/{self.rate}"

    def keep(self, layer: str, like: torch.Tensor) -> torch.Tensor:
        """Return which features of `like` (any shape) are kept, as a boolean tensor of its shape."""
        generator = torch.Generator(like.device)
        digest = blake2b(f"{self.key}/{layer}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(digest, "big") >> 1)
        # two 32-bit draws from each 64-bit integer: three times as fast as torch.bernoulli on a CPU
        pairs = torch.empty((like.numel() + 1) // 2, dtype=torch.int64, device=like.device)
        draws = pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[: like.numel()]
        lowest_kept = min(round(self.rate * 2**32), 2**32 - 1) - 2**31  # within int32, also for rates near 1
        return (draws >= lowest_kept).view(like.shape)

    @property
    def scale(self) -> float:
        """Return the factor for kept features that preserves the mean."""
        return 1.0 / (1.0 - self.rate)


class KeyedDropout(torch.nn.Module):
    """Replaces the `torch.nn.Dropout` that PEFT puts before lora_A of the linear `layer`."""

    def __init__(self, masks: Masks, layer: str) -> None:
        super().__init__()
        self.masks, self.layer = masks, layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply dropout to features (..., width) in training mode."""
        if not self.training or not self.masks.rate:
            return features
        return features * self.masks.keep(self.layer, features) * self.masks.scale

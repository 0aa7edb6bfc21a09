"""Dropout with masks that depend on the trial's seed, the step and the layer, not on which trials share a pass."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch


@dataclass
class Masks:
    """Draws the dropout masks of one trial; the trainer sets `step` and `micro_step` before each batch.

    A mask is a function of seed, step, micro step, rate and layer. So trials that differ only in learning rate or
    placement are compared under common random numbers, and a resumed trial draws the masks of an uninterrupted one.
    """

    seed: int
    rate: float
    step: int = 0
    micro_step: int = 0

    @property
    def place(self) -> str:
        """Return what determines a mask besides the layer, as text; equal texts mean equal masks."""
        return f"{self.seed}/{self.step}/{self.micro_step}/{self.rate}"

    def keep(self, layer: str, like: torch.Tensor) -> torch.Tensor:
        """Return which features of `like` (any shape) are kept, as a boolean tensor of its shape."""
        generator = torch.Generator(like.device)
        key = blake2b(f"{self.place}/{layer}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(key, "big") >> 1)
        # two draws from each 64 random bits take a third of the time of torch's own bernoulli on a CPU
        pairs = torch.empty((like.numel() + 1) // 2, dtype=torch.int64, device=like.device)
        draws = pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[: like.numel()]
        lowest_kept = min(round(self.rate * 2**32), 2**32 - 1) - 2**31  # a draw is at most this
        return (draws >= lowest_kept).view(like.shape)

    @property
    def scale(self) -> float:
        """Return the factor for kept features that keeps the mean."""
        return 1.0 / (1.0 - self.rate)


class KeyedDropout(torch.nn.Module):
    """Replaces the `torch.nn.Dropout` that PEFT puts before lora_A of a layer."""

    def __init__(self, masks: Masks, layer: str) -> None:
        super().__init__()
        self.masks, self.layer = masks, layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply dropout to features (..., width) while training."""
        if not self.training or not self.masks.rate:
            return features
        return features * self.masks.keep(self.layer, features) * self.masks.scale

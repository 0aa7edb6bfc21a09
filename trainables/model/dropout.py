"""Dropout whose masks depend on the trial's seed, the step and the layer, never on which trials share a pass."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch


@dataclass
class Masks:
    """Draws one trial's masks; `step` and `micro_step` say where the trial stands, the trainer moves them on.

    The same seed draws the same masks at the same place, so trials that differ in rate or placement alone are compared
    under common random numbers, and a resumed trial draws what an uninterrupted one would have drawn.
    """

    seed: int
    rate: float
    step: int = 0
    micro_step: int = 0

    @property
    def place(self) -> str:
        """Name what decides a mask besides the layer: two trials at the same place draw the same masks."""
        return f"{self.seed}/{self.step}/{self.micro_step}/{self.rate}"

    def keep(self, layer: str, like: torch.Tensor) -> torch.Tensor:
        """Return which features of `like` (any shape) are kept, as a boolean tensor of its shape."""
        generator = torch.Generator(like.device)
        key = blake2b(f"{self.place}/{layer}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(key, "big") >> 1)
        # two draws from every 64 random bits: a third of the time that torch's own bernoulli takes on a CPU
        pairs = torch.empty((like.numel() + 1) // 2, dtype=torch.int64, device=like.device)
        draws = pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[: like.numel()]
        lowest_kept = min(round(self.rate * 2**32), 2**32 - 1) - 2**31  # the largest that a draw can be
        return (draws >= lowest_kept).view(like.shape)

    @property
    def scale(self) -> float:
        """Return what kept features are multiplied with, so that the mean stays."""
        return 1.0 / (1.0 - self.rate)


class KeyedDropout(torch.nn.Module):
    """Stands where PEFT puts `torch.nn.Dropout` before lora_A of one layer."""

    def __init__(self, masks: Masks, layer: str) -> None:
        super().__init__()
        self.masks, self.layer = masks, layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Drop features (..., width) while training, pass them on otherwise."""
        if not self.training or not self.masks.rate:
            return features
        return features * self.masks.keep(self.layer, features) * self.masks.scale

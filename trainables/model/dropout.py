"""Dropout whose masks depend only on seed, step, layer and rate, not on which trials share a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch


@dataclass(frozen=True)
class Share:
    """The part from `start` to `stop` of `total`, in rows or in any measure that their features are proportional to."""

    start: int
    stop: int
    total: int

    def whole(self, features: int) -> int:
        """Return how many features the whole has, of which this part has `features`."""
        return features * self.total // (self.stop - self.start)

    def before(self, features: int) -> int:
        """Return how many features of the whole come before this part, which has `features`."""
        return features * self.start // (self.stop - self.start)


WHOLE = Share(0, 1, 1)


@dataclass(frozen=True)
class Shares:
    """Which part of a batch a pass computes: its share of the rows, and in `vision_layers` of the pictures."""

    language: Share
    vision: Share
    vision_layers: frozenset[str]

    def of(self, layer: str) -> Share:
        """Return the share in a linear, by its name."""
        return self.vision if layer in self.vision_layers else self.language


@dataclass
class Masks:
    """Draws the dropout masks of one trial; the trainer sets `step` and `micro_step` before each batch.

    A mask is a function of seed, step, micro step, rate and layer. Trials that differ only in learning rate or
    placement therefore use common random numbers, and a resumed trial draws the same masks as an uninterrupted one.
    A pass over `shares` of a batch takes its part of the mask that the whole batch would draw.
    """

    seed: int
    rate: float
    step: int = 0
    micro_step: int = 0
    shares: Shares | None = None

    @property
    def key(self) -> str:
        """Return all that determines a mask except the layer, as text; equal keys mean equal masks."""
        return f"{self.seed}/{self.step}/{self.micro_step}/{self.rate}"

    def keep(self, layer: str, like: torch.Tensor) -> torch.Tensor:
        """Return which features of `like` (any shape) are kept, as a boolean tensor of its shape."""
        generator = torch.Generator(like.device)
        digest = blake2b(f"{self.key}/{layer}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(digest, "big") >> 1)
        share = self.shares.of(layer) if self.shares else WHOLE
        whole, before = share.whole(like.numel()), share.before(like.numel())
        # two 32-bit draws from each 64-bit integer: three times as fast as torch.bernoulli on a CPU
        pairs = torch.empty((whole + 1) // 2, dtype=torch.int64, device=like.device)
        draws = pairs.random_(-(2**63), None, generator=generator).view(torch.int32)[before : before + like.numel()]
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

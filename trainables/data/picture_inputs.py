"""Turns what an image processor makes of a picture into inputs of the model, by the family's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from trainables.model.families import Family
from trainables.model.families.family import Config

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Pixels:
    """A picture as the model reads it: `values` are its `pixel_values`, and `more` the other inputs, by name.

    `tokens` is the number of its image tokens, and `text` what stands for it in a conversation, in families where that
    is more than one token, repeated.
    """

    values: torch.Tensor
    tokens: int
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)
    text: str = ""

    @property
    def grid(self) -> torch.Tensor:
        """Return the time, height and width in patches (1, 3), where the family has them."""
        return self.more["image_grid_thw"]

    @property
    def bytes(self) -> int:
        """Return the size of the inputs in memory."""
        return sum(one.numel() * one.element_size() for one in (self.values, *self.more.values()))


def pixels_of(features: Mapping[str, Any], family: Family, config: Config, processor: Any) -> Pixels:
    """Return the inputs for one picture, of which `processor` made `features`."""
    written = family.picture_text
    if written is None:
        grid = features["image_grid_thw"]
        tokens = int(grid.prod()) // processor.merge_size**2
        return Pixels(features["pixel_values"], tokens, {"image_grid_thw": grid})
    text = written.expanded(config, features)
    more = {name: features[name] for name in written.inputs if name != "pixel_values"}
    return Pixels(features["pixel_values"], text.count(str(family.image_token)), more, text)


def joined(pictures: Sequence[Pixels], family: Family) -> dict[str, torch.Tensor]:
    """Return the model's inputs for the pictures of a batch, in their order; nothing for no pictures."""
    if not pictures:
        return {}
    axis = family.picture_text.joined_axis if family.picture_text else 0
    every = [{"pixel_values": one.values, **one.more} for one in pictures]
    return {name: torch.cat([one[name] for one in every], dim=axis) for name in every[0]}


class WithoutPixels:
    """Replaces an image processor where only the tokens of pictures are wanted.

    Every size runs through the processor once; its features are kept, but for the pixels.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.known: dict[tuple[int, int], dict[str, Any]] = {}

    def __call__(self, images: list[Image.Image], return_tensors: str, **options: Any) -> dict[str, Any]:
        """Return the features of one picture; `pixel_values` are empty."""
        [picture] = images
        if picture.size not in self.known:
            features = dict(self.processor(images=images, return_tensors=return_tensors, **options))
            self.known[picture.size] = features | {"pixel_values": torch.empty(0)}
        return self.known[picture.size]

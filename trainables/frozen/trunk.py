"""Computes the activations of one row or one picture, in the one shape in which they are kept.

One row without padding, or one picture, in eval mode and without a gradient: so an entry does not depend on the batch
that asked for it, and runs with a cold cache, with a warm one and after a restart are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trainables.data.encoding import Encoded, Encoder, View, collate
from trainables.frozen.entry_memory import Entry
from trainables.frozen.key import Cut
from trainables.frozen.partial_forward import stopped_at, vision_steps
from trainables.model.base import Base


@dataclass(frozen=True)
class Trunk:
    """The frozen layers of a base, which carries no adapter meanwhile."""

    base: Base
    encoder: Encoder

    def of_row(self, row: Encoded, block: int) -> Entry:
        """Return the hidden states (tokens, width) that enter a language block, on the CPU."""
        inputs = collate([row], self.encoder, self.base.device, pad_left=False).inputs
        with self._frozen(), stopped_at(self.base, Cut("language", block)) as caught:
            self.base.model.model(**inputs, use_cache=False)
        return (_kept(caught[0][0]),)

    def of_picture(self, view: View, block: int) -> Entry:
        """Return what a picture contributes to a pass that starts at a vision block, on the CPU.

        Those are the hidden states (patches, width) that enter the block, then the features of the DeepStack levels
        below it; or, of the whole tower, all features that enter the language tower.
        """
        pixels, steps = self.encoder.pixels(view), vision_steps(self.base)
        inputs = {"pixel_values": pixels.values.to(self.base.device), "image_grid_thw": pixels.grid.to(self.base.device)}
        if block == len(self.base.towers["vision"]):
            with self._frozen():
                return tuple(map(_kept, steps.read_images(self.base.model, inputs, 1)))
        with self._frozen(), stopped_at(self.base, Cut("vision", block)) as caught:
            _, *features = steps.read_images(self.base.model, inputs, 1)
        below = [tap < block for tap, _ in steps.taps(self.base.model)]
        return tuple(map(_kept, (caught[0], *(one for one, is_below in zip(features, below, strict=True) if is_below))))

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        model = self.base.model
        trains = model.training
        if trains:
            model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if trains:
                model.train()


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu").contiguous()

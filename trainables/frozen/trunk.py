"""Computes the activations of rows and pictures, each in the shape that `grouping` gives it.

In eval mode and without a gradient. So an entry does not depend on the batch that asked for it, and runs with a cold
cache, with a warm one and after a restart are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import pad

from trainables.data.encoding import Encoded, Encoder, View, collate
from trainables.frozen.entry_memory import Entry
from trainables.frozen.grouping import (
    CPU_TOKENS,
    GPU_TOKENS,
    GroupShape,
    filled,
    groups_of,
    picture_shape,
    row_shape,
)
from trainables.frozen.key import Cut
from trainables.frozen.partial_forward import stopped_at, vision_steps
from trainables.model.base import Base

Compute = Callable[[list[int], GroupShape], list[Entry]]


@dataclass
class Trunk:
    """The frozen layers of a base, which carries no adapter meanwhile."""

    base: Base
    encoder: Encoder
    _proved: dict[tuple[str, Any], bool] = field(default_factory=dict)  # whether rows of a shape are independent

    @cached_property
    def most_tokens(self) -> int:
        """Return the tokens of a group; 0 for int8, which looks for outliers in all rows of a product at once."""
        if any(type(module).__name__ == "Linear8bitLt" for module in self.base.model.modules()):
            return 0
        return GPU_TOKENS if self.base.device.type == "cuda" else CPU_TOKENS

    def rows(self, rows: Sequence[Encoded], features: Sequence[Sequence[Entry]], block: int) -> list[Entry]:
        """Return the hidden states (tokens, width) that enter a language block, on the CPU, for each row.

        `features` are those of the pictures of each row, from the whole vision tower.
        """
        shapes = [row_shape(len(row.tokens), self.most_tokens) for row in rows]
        alone = [GroupShape(1, len(row.tokens)) for row in rows]

        def compute(numbers: list[int], shape: GroupShape) -> list[Entry]:
            chosen = [rows[number] for number in numbers]
            pictures = [one for number in numbers for one in features[number]]
            hidden = self._language(chosen, pictures, shape, block)
            return [(_kept(one[: len(row.tokens)]),) for one, row in zip(hidden, chosen, strict=True)]

        return self._in_groups([("row", one) for one in shapes], alone, compute)

    def pictures(self, views: Sequence[View], block: int) -> list[Entry]:
        """Return what each picture contributes to a pass that starts at a vision block, on the CPU.

        Those are the hidden states (patches, width) that enter the block, then the features of the DeepStack levels
        below it; or, of the whole tower, all features that enter the language tower.
        """
        grids = [self.encoder.pixels(view).grid for view in views]
        sizes = [int(grid.prod()) for grid in grids]
        keys = [
            (tuple(grid.flatten().tolist()), picture_shape(size, self.most_tokens))
            for grid, size in zip(grids, sizes, strict=True)
        ]

        def compute(numbers: list[int], _: GroupShape) -> list[Entry]:
            found = self._vision([views[number] for number in numbers], block)
            parts = [one.chunk(len(numbers)) for one in found]
            return [tuple(map(_kept, each)) for each in zip(*parts, strict=True)]

        return self._in_groups(keys, [GroupShape(1, size) for size in sizes], compute)

    # ---------------------------------------------------------------- groups
    def _in_groups(
        self, keys: Sequence[tuple[Any, GroupShape]], alone: Sequence[GroupShape], compute: Compute
    ) -> list[Entry]:
        found: dict[int, Entry] = {}
        with self._frozen():
            for key, numbers in groups_of(keys).items():
                for group in filled(numbers, key[1].lines):
                    entries = self._group(key, compute, group)
                    if entries is None:
                        single = list(dict.fromkeys(group))
                        found.update((number, compute([number], alone[number])[0]) for number in single)
                    else:
                        found.update(zip(group, entries, strict=True))
        return [found[number] for number in range(len(keys))]

    def _group(self, key: tuple[Any, GroupShape], compute: Compute, group: list[int]) -> list[Entry] | None:
        """Return the entries of a group, None if a row is not the same at another place, beside other rows.

        This is tried once for each shape, with the first row of a group at every place.
        """
        entries = compute(group, key[1])
        if key[1].lines == 1:
            return entries
        if key not in self._proved:
            if len(set(group)) == 1:
                return entries if _equal(entries) else None
            self._proved[key] = _equal([entries[0], *compute([group[0]] * len(group), key[1])])
        return entries if self._proved[key] else None

    # ---------------------------------------------------------------- parts of the forward
    def _language(
        self, rows: Sequence[Encoded], pictures: Sequence[Entry], shape: GroupShape, block: int
    ) -> torch.Tensor:
        inputs = _without_pixels(collate(rows, self.encoder, self.base.device, pad_left=False).inputs)
        spare = shape.tokens - inputs["input_ids"].shape[1]
        fill = {"input_ids": self.encoder.tokenizer.pad_token_id}
        inputs = {name: pad(one, (0, spare), value=fill.get(name, 0)) for name, one in inputs.items()}
        positions = (inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)
        more: dict[str, Any] = {"use_cache": False, "position_ids": positions}
        if pictures:
            steps = vision_steps(self.base)
            grid = torch.cat([self.encoder.pixels(view).grid for row in rows for view in row.views])
            given = {**inputs, "image_grid_thw": grid.to(self.base.device)}
            joined = [torch.cat(parts).to(self.base.device) for parts in zip(*pictures, strict=True)]
            more["position_ids"] = steps.positions(self.base.model, given)[0]
            more["mm_encoder_outputs"] = {"image": steps.as_encoder_output(joined)}
        with stopped_at(self.base, Cut("language", block)) as caught:
            self.base.model.model(**inputs, **more)
        return caught[0]

    def _vision(self, views: Sequence[View], block: int) -> tuple[torch.Tensor, ...]:
        pixels, steps, device = [self.encoder.pixels(view) for view in views], vision_steps(self.base), self.base.device
        inputs = {
            "pixel_values": torch.cat([one.values for one in pixels]).to(device),
            "image_grid_thw": torch.cat([one.grid for one in pixels]).to(device),
        }
        if block == len(self.base.towers["vision"]):
            return steps.read_images(self.base.model, inputs, 1)
        with stopped_at(self.base, Cut("vision", block)) as caught:
            _, *features = steps.read_images(self.base.model, inputs, 1)
        taps = steps.taps(self.base.model)
        return (caught[0], *(one for one, (tap, _) in zip(features, taps, strict=True) if tap < block))

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


def _without_pixels(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in inputs.items() if name not in ("pixel_values", "image_grid_thw")}


def _equal(entries: Sequence[Entry]) -> bool:
    first = entries[0]
    return all(torch.equal(a, b) for one in entries[1:] for a, b in zip(first, one, strict=True))


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu").contiguous()

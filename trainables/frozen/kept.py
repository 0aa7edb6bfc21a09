"""Finds or computes the activations of the rows of a batch, and joins them to the inputs of one block.

Every pass that could start above the trunk does so, whether its entries were kept, read or computed this moment. The
result of a pass therefore never depends on what was kept before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch

from trainables.data.encoding import Batch, Encoded, Encoder, PlacedRow, View
from trainables.frozen.entry_memory import Entry, EntryMemory
from trainables.frozen.facts import bytes_of, facts_of, is_random_in_training, longest_rotation
from trainables.frozen.key import (
    Differing,
    Facts,
    TrunkEnd,
    picture_end_of,
    picture_key,
    row_key,
    trunk_end_of,
    trunk_key,
)
from trainables.frozen.partial_forward import answered, started_at, vision_steps
from trainables.frozen.store import Store
from trainables.frozen.trunk import Trunk
from trainables.model.base import Base

PLACES_READ_AHEAD = 4  # the newest: those of the passes of the last step
UNLIMITED = 2**62  # bytes


@dataclass(frozen=True)
class Start:
    """Where a pass starts, and the activations of its batch there, on the device of the base.

    In the language tower they are the hidden states (lines, tokens, width). In the vision tower they are the hidden
    states (patches, width) and the features of the DeepStack levels below, or of the whole tower all its features.
    """

    base: Base
    place: TrunkEnd
    states: tuple[torch.Tensor, ...]

    @property
    def needs_pictures(self) -> bool:
        """True when the pass still takes features of pictures."""
        return self.place.tower == "vision"

    @property
    def replaces_all_layers(self) -> bool:
        """True when no language layer runs, because all members compute the same as the base in all of them."""
        return self.place == TrunkEnd("language", len(self.base.towers["language"]))

    @property
    def features(self) -> tuple[torch.Tensor, ...] | None:
        """Return the features of the pictures if the whole vision tower is frozen, else None."""
        whole = self.place == TrunkEnd("vision", len(self.base.towers["vision"]))
        return self.states if whole else None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model start at the place, within the block."""
        if self.features is not None:
            yield
            return
        hidden, *taps = self.states
        with ExitStack() as stack:
            stack.enter_context(started_at(self.base, self.place, hidden))
            if taps:
                taps_below = (one for one in vision_steps(self.base).taps(self.base.model) if one[0] < self.place.block)
                mergers = [merger for _, merger in taps_below]
                stack.enter_context(answered(dict(zip(mergers, taps, strict=True))))
            yield


@dataclass
class KeptActivations:
    """The activations of the rows of one base, kept in `store`; `Engine` has one for all of its trials."""

    base: Base
    encoder: Encoder
    store: Store
    _trunks: dict[tuple[TrunkEnd, str], str] = field(default_factory=dict)  # keys, the newest last
    _pictures: dict[View, str] = field(default_factory=dict)  # keys of processed pictures

    @cached_property
    def facts(self) -> Facts:
        """Return what decides the activations; read at the first pass, when no adapter is on the base."""
        return facts_of(self.base)

    @cached_property
    def is_usable(self) -> bool:
        """True unless the base is random in train mode, so that its activations differ from step to step."""
        return not is_random_in_training(self.base)

    @property
    def taps(self) -> int:
        """Return how many language blocks DeepStack adds features to."""
        return len(vision_steps(self.base).taps(self.base.model)) if self.base.family.sees else 0

    def emptied(self) -> KeptActivations:
        """Return the same with an empty store, by which the first pass over rows is timed."""
        empty = KeptActivations(self.base, self.encoder, Store(EntryMemory(UNLIMITED)))
        empty.facts, empty._trunk = self.facts, self._trunk  # its shapes are proved
        return empty

    def start(self, batch: Batch, differing: Differing, members: Iterable[int]) -> Start | None:
        """Return where a pass of `members` on a batch starts; None if it must run from the beginning."""
        if not batch.rows or not self.is_usable or batch.labels.shape[1] > longest_rotation(self.base):
            return None
        place = trunk_end_of(differing, frozenset(members), "pixel_values" in batch.inputs, self.taps)
        if place is None:
            return None
        if place.tower == "vision":
            return self._pictures_at(place, batch.rows)
        entries = self._of_rows([one.row for one in batch.rows], place)
        return Start(self.base, place, (self._joined(batch, entries),))

    def pictures(self, rows: Sequence[PlacedRow], differing: Differing, members: Iterable[int]) -> Start | None:
        """Return where the vision tower starts for the pictures of these rows, as a prefill needs it."""
        if not self.is_usable or not any(one.row.views for one in rows):
            return None
        place = picture_end_of(differing, frozenset(members))
        return self._pictures_at(place, rows) if place else None

    def read_ahead(self, rows: Iterable[Encoded]) -> None:
        """Prepare the entries of rows that a later step reads, at the places of the last passes."""
        for (place, _), trunk in list(self._trunks.items())[-PLACES_READ_AHEAD:]:
            for row in rows:
                if place.tower == "vision":
                    for view in (one for one in row.views if one in self._pictures):
                        self.store.read_ahead(trunk, self._pictures[view])
                elif all(view in self._pictures for view in row.views):
                    self.store.read_ahead(trunk, self._key_of(row))

    # ---------------------------------------------------------------- entries
    @cached_property
    def _trunk(self) -> Trunk:
        return Trunk(self.base, self.encoder)

    def _of_rows(self, rows: Sequence[Encoded], place: TrunkEnd) -> list[Entry]:
        trunk, keys = self._trunk_key(place), [self._key_of(row) for row in rows]
        found = {key: self.store.get(trunk, key, row.lasting) for key, row in zip(keys, rows, strict=True)}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if found[key] is None}
        if missing:
            whole = TrunkEnd("vision", len(self.base.towers["vision"]))
            views = [view for row in missing.values() for view in row.views]
            # the features of pictures are needed once more for prompts, and for nothing else
            features = iter(self._of_pictures(views, whole, lasting=False))
            own = [[next(features) for _ in row.views] for row in missing.values()]
            computed = self._trunk.rows(list(missing.values()), own, place.block)
            for (key, row), entry in zip(missing.items(), computed, strict=True):
                found[key] = self.store.put(trunk, key, entry, row.lasting)
        return [_known(found[key]) for key in keys]

    def _of_pictures(self, views: Sequence[View], place: TrunkEnd, lasting: bool = True) -> list[Entry]:
        trunk = self._trunk_key(place) if views else ""
        keys = [self._picture_key(view) for view in views]
        found = {key: self.store.get(trunk, key, lasting) for key in keys}
        missing = {key: view for key, view in zip(keys, views, strict=True) if found[key] is None}
        if missing:
            computed = self._trunk.pictures(list(missing.values()), place.block)
            for key, entry in zip(missing, computed, strict=True):
                found[key] = self.store.put(trunk, key, entry, lasting)
        return [_known(found[key]) for key in keys]

    def _trunk_key(self, place: TrunkEnd) -> str:
        mode = "train" if self._trunk.is_int8 and self.base.model.training else ""
        key = self._trunks.pop((place, mode), None) or trunk_key(self.facts, place, mode)
        self._trunks[place, mode] = key
        return key

    def _key_of(self, row: Encoded) -> str:
        return row_key(row.tokens, [self._picture_key(view) for view in row.views])

    def _picture_key(self, view: View) -> str:
        if view not in self._pictures:
            pixels = self.encoder.pixels(view)
            grid = pixels.grid.flatten().tolist()
            self._pictures[view] = picture_key(bytes_of(pixels.values), grid, str(pixels.values.dtype))
        return self._pictures[view]

    # ---------------------------------------------------------------- joining
    def _pictures_at(self, place: TrunkEnd, rows: Sequence[PlacedRow]) -> Start:
        entries = self._of_pictures([view for one in rows for view in one.row.views], place)
        joined = (torch.cat(parts).to(self.base.device) for parts in zip(*entries, strict=True))
        return Start(self.base, place, tuple(joined))

    def _joined(self, batch: Batch, entries: Sequence[Entry]) -> torch.Tensor:
        """Put the rows at their places (lines, tokens, width); padding, which no row attends to, is zero."""
        lines, tokens = batch.labels.shape
        first, on_gpu = entries[0][0], self.base.device.type == "cuda"
        hidden = torch.zeros(lines, tokens, first.shape[-1], dtype=first.dtype, pin_memory=on_gpu)
        for placed, (entry,) in zip(batch.rows, entries, strict=True):
            hidden[placed.line, placed.start : placed.start + len(entry)] = entry
        return hidden.to(self.base.device, non_blocking=True)


def _known(entry: Entry | None) -> Entry:
    assert entry is not None
    return entry

"""One forward pass for several trials: a block runs once for all trials that do not differ up to it.

Below its lowest adapter a trial computes the same as the base. A pass starts with one group of all trials. Before the
first block in which a trial differs from the base, the trial gets its own group and the batch is replicated for it.
A graph is kept only for groups that train something up to the block (`graph_rows.py`), and the last layer is computed
only where its output is read (`label_rows.py`).
Text before the first image is the same for all trials up to the lowest language adapter, so it is computed once
(`shared_prefix.py`). Everything specific to a model family is in `model/families`.
Prior art for models with frozen layers: Nautilus (SIGMOD 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from trainables.cohort.graph_rows import GraphRows
from trainables.cohort.label_rows import Selection, can_select, of_labels, of_last, on_device, selected_inputs
from trainables.cohort.positions import repeated_positions, text_positions
from trainables.cohort.shared_prefix import FrozenPrefix, common_tokens, has_full_attention, repeated
from trainables.cohort.stacked_lora import Group, StackedLora, take
from trainables.data.encoding import Batch, PlacedRow
from trainables.frozen.kept import KeptActivations, Start
from trainables.model.base import Base, predicted
from trainables.model.families import Blocks, TowerName
from trainables.model.families.family import VisionSteps, block_name
from trainables.model.lora import Adapter

BlockInputs = tuple[tuple[Any, ...], dict[str, Any]]
PER_TOKEN = ("attention_mask", "position_ids", "position_embeddings")


@dataclass(frozen=True)
class GroupLogits:
    """Logits (groups, tokens, vocabulary) in float32 at supervised tokens, their targets, and the groups."""

    values: torch.Tensor
    targets: torch.Tensor
    groups: list[Group]


class SharedForward:
    """Runs one base for several adapters (the members) at once.

    With `share=False` every member has its own group from the first block on; benchmarks and tests use this.
    With `kept`, a pass starts above the frozen layers that its batch has in common, from kept activations.

    Raises:
        ValueError: the family of the base has no shared forward.
    """

    def __init__(
        self, base: Base, adapters: Sequence[Adapter], share: bool = True, kept: KeptActivations | None = None
    ) -> None:
        if base.family.shared_forward is None:
            raise ValueError(f"the family of a base must define a shared forward, but that of {base.path} does not")
        self.base, self.share, self.kept = base, share, kept if share else None
        self.vision: VisionSteps | None = base.family.shared_forward.vision
        self.lora = StackedLora(base, adapters)
        self.groups = self.lora.groups
        self.differing: dict[TowerName, list[frozenset[int]]] = {
            tower: [self.lora.members_in(block_name(block)) for block in blocks]
            for tower, blocks in base.towers.items()
        }
        self.training = {
            tower: [*accumulate((self.lora.training_in(block_name(block)) for block in blocks), frozenset.union)]
            for tower, blocks in base.towers.items()
        }
        self.position_shift: torch.Tensor | None = None  # of the last pass
        self._graphs = GraphRows(self.groups)
        self._selected: Selection | None = None  # positions of which the last layer is computed; None for all
        self._rows = 0  # rows of the batch in one group
        self._image_groups = 0  # groups at the start of the vision tower
        self._repeated: dict[tuple[Any, ...], Any] = {}  # cache of block arguments repeated for more groups
        self._prefix: FrozenPrefix | None = None
        self._start: Start | None = None
        self._handles: list[RemovableHandle] = [
            *self._around_each(base.towers["vision"], self._enter_vision),
            *self._around_each(base.towers["language"], self._enter_language),
        ]

    def logits(self, batch: Batch, members: Iterable[int]) -> GroupLogits:
        """Run `members` on a batch; compute logits only at positions that predict a supervised token."""
        members, supervised = tuple(members), batch.is_supervised
        start = self.kept.start(batch, self.differing, members) if self.kept else None
        with self.running(members, len(batch.labels), selected=of_labels(batch)), self._starting(start):
            out = self._run(self.base.model.model, batch.inputs, batch.labels)
            groups, selected = list(self.groups.now), self._selected
        hidden = out.last_hidden_state
        hidden = hidden.view(len(groups), len(batch.labels), *hidden.shape[1:])
        if selected:
            used = selected.used
        else:
            skipped = batch.labels.shape[1] - hidden.shape[2]  # prefix tokens, which this pass does not compute
            hidden = hidden[:, :, :-1]
            used = on_device(np.flatnonzero(supervised[:, skipped:]), hidden.device)
        chosen = hidden.flatten(1, 2).index_select(1, used)
        labels = on_device(np.flatnonzero(supervised), hidden.device)
        return GroupLogits(predicted(self.base, chosen), batch.labels[:, 1:].flatten().index_select(0, labels), groups)

    @torch.no_grad()
    def prefill(
        self, inputs: Mapping[str, torch.Tensor], members: Iterable[int], cache: Any, rows: Sequence[PlacedRow] = ()
    ) -> tuple[Any, list[Group]]:
        """Run prompts for `members` and fill `cache`; return the model's output and the groups.

        Each layer of the cache then has the rows of all groups, one group after the other. Kept activations of the
        pictures are used where `rows`, those of the batch, are given.
        """
        members = tuple(members)
        start = self.kept.pictures(rows, self.differing, members) if self.kept else None
        selected = of_last(inputs["input_ids"])
        with self.running(members, len(inputs["input_ids"]), selected=selected), self._starting(start):
            out = self._run(self.base.model, inputs, None, past_key_values=cache, use_cache=True, logits_to_keep=1)
            for layer in cache.layers:
                count = len(layer.keys) // self._rows
                parents = self.groups.parents(count)
                layer.keys, layer.values = (take(one, parents, count) for one in (layer.keys, layer.values))
            return out, list(self.groups.now)

    @contextmanager
    def running(
        self, members: Iterable[int], rows: int, groups: Sequence[Group] = (), selected: Selection | None = None
    ) -> Iterator[None]:
        """Apply the adapters of `members` in passes of `rows` rows per group; `groups` are those of an earlier pass.

        With `selected` the last layer is computed at these positions only, where the family allows it.
        """
        all_members = tuple(members)
        self._selected = selected if can_select(self.base) else None
        self.groups.begin(groups or ([all_members] if self.share else [(member,) for member in all_members]))
        self._rows = rows
        try:
            yield
        finally:
            self.groups.begin(())
            self._rows, self._image_groups, self._prefix, self._selected = 0, 0, None, None
            self._graphs.clear()
            self._repeated.clear()

    def remove(self) -> None:
        """Remove all hooks from the base."""
        self.lora.remove()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # ---------------------------------------------------------------- one pass
    @contextmanager
    def _starting(self, start: Start | None) -> Iterator[None]:
        self._start = start
        if start and start.replaces_all_layers:
            self._selected = None  # the last layer does not run
        try:
            with start.applied() if start else nullcontext():
                yield
        finally:
            self._start = None

    def _run(self, module: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None, **given: Any) -> Any:
        if self.vision is not None and "pixel_values" in inputs:
            positions, self.position_shift = self.vision.positions(self.base.model, inputs)
            if self._start is None or self._start.needs_pictures:
                features = self._read_images(self.vision, inputs)
                given["mm_encoder_outputs"] = {"image": self.vision.as_encoder_output(features)}
                self._prefix = self._shared_text(inputs, positions, labels, added_to=len(features) - 1)
        else:
            positions, self.position_shift = text_positions(inputs), None
        start = self._prefix.tokens if self._prefix else 0
        count = len(self.groups.now)
        given["position_ids"] = repeated_positions(positions[..., start:], count)
        if self._prefix:
            given["past_key_values"] = self._prefix.cache(count)
        if "attention_mask" in inputs:  # packed rows are separated by their positions alone
            given["attention_mask"] = inputs["attention_mask"].repeat(count, 1)
        return module(input_ids=inputs["input_ids"][:, start:].repeat(count, 1), **{"use_cache": False, **given})

    def _read_images(self, vision: VisionSteps, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        self._image_groups = len(self.groups.now)
        kept = self._start.features if self._start else None
        features = kept or vision.read_images(self.base.model, inputs, self._image_groups)
        tokens = len(features[0]) // len(self.groups.now)
        # DeepStack adds features to the outputs of the first language blocks. A member that differs in one of these
        # blocks therefore needs its own group before the first.
        self.groups.split(frozenset().union(*self.differing["language"][: len(features) - 1]))
        if len(features) > len(self.differing["language"]):  # it adds to all positions of the last layer too
            self._selected = None
        # each feature has as many groups as there were at the block that computed it
        counts = [len(one) // tokens for one in features]
        return [take(one, self.groups.parents(count), count) for one, count in zip(features, counts, strict=True)]

    def _shared_text(
        self, inputs: Mapping[str, torch.Tensor], positions: torch.Tensor, labels: torch.Tensor | None, added_to: int
    ) -> FrozenPrefix | None:
        if labels is None or len(self.groups.now) == 1 or not self.share or not has_full_attention(self.base):
            return None
        active = self._active()
        first = next((i for i, members in enumerate(self.differing["language"]) if members & active), None)
        if first is not None and first < added_to:
            return None
        tokens = common_tokens(inputs[str(self.base.family.image_token_mask)], labels)
        return FrozenPrefix.run(self.base, inputs, positions, tokens, first) if tokens else None

    def _active(self) -> frozenset[int]:
        return frozenset(member for group in self.groups.now for member in group)

    # ---------------------------------------------------------------- splitting groups
    def _around_each(self, blocks: Blocks, enter: Any) -> Iterator[RemovableHandle]:
        for index, block in enumerate(blocks):
            module = self.base.model.get_submodule(block_name(block))
            yield module.register_forward_pre_hook(partial(enter, index), with_kwargs=True)
            yield module.register_forward_hook(self._leave)

    def _enter_vision(self, index: int, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockInputs:
        hidden = self._split(args[0], self.differing["vision"][index])
        training = self.training["vision"][index] if self.share else self._active()
        hidden, kwargs = self._graphs.enter(
            block, hidden, training, lambda rows, count: (rows, self._vision_arguments(kwargs, count))
        )
        return (hidden, *args[1:]), kwargs

    def _vision_arguments(self, kwargs: dict[str, Any], count: int) -> dict[str, Any]:
        if self.vision is None or count == self._image_groups:
            return kwargs
        # blocks with and without windows get different arguments
        key = ("vision", count, *map(id, kwargs.values()))
        if key not in self._repeated:
            wider = self.vision.repeat_block_arguments(kwargs, count // self._image_groups)
            self._repeated[key] = kwargs, wider  # keeps kwargs alive, so that the ids in the key stay unique
        return self._repeated[key][1]

    def _enter_language(self, index: int, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockInputs:
        members = self.differing["language"][index]
        hidden, count = args[0], len(self.groups.now)
        if not count:  # the base runs alone, as for activations that are kept
            return args, kwargs
        if self._prefix:
            hidden, kwargs = self._prefix.enter_block(hidden, kwargs, count, bool(members & self._active()))
        hidden = self._split(hidden, members)
        is_last = index == len(self.differing["language"]) - 1
        training = self._training_with_images(index) if self.share else self._active()

        def inputs_for(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, dict[str, Any]]:
            given = self._language_arguments(kwargs, rows, count)
            if not is_last or self._selected is None:
                return rows, given
            chosen = selected_inputs(self.base, block, rows, given, self._selected)
            self.groups.selected = self._selected
            return chosen

        hidden, kwargs = self._graphs.enter(block, hidden, training, inputs_for)
        return (hidden, *args[1:]), kwargs

    def _training_with_images(self, index: int) -> frozenset[int]:
        # what a vision adapter changes needs a graph in all language layers
        training = self.training["language"][index]
        return training | self.training["vision"][-1] if self._image_groups else training

    def _language_arguments(self, kwargs: dict[str, Any], rows: torch.Tensor, count: int) -> dict[str, Any]:
        given = dict(kwargs)
        if len(rows) != len(kwargs["position_embeddings"][0]):
            given |= {name: self._for_groups(kwargs[name], count) for name in PER_TOKEN}
        if self._prefix and kwargs["past_key_values"] is not None:
            given["past_key_values"] = self._prefix.cache(count)
        return given

    def _leave(self, _: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        self.groups.selected = None
        return self._graphs.leave(output)

    def _for_groups(self, given: Any, count: int) -> Any:
        # most blocks get the same objects, but blocks with a sliding window get other masks
        key = ("language", id(given), count)
        if key not in self._repeated:
            self._repeated[key] = given, repeated(given, self._rows, count)
        return self._repeated[key][1]

    def _split(self, hidden: torch.Tensor, members: frozenset[int]) -> torch.Tensor:
        before = len(self.groups.now)
        parents = self.groups.split(members)
        return hidden if parents is None else take(hidden, parents, before)

"""The shared prefix: trials on one batch are computed once, until the first block in which they differ.

Below its lowest adapter every trial computes what the base computes. A pass begins with one group of all members and
widens at the first block that holds a trained tensor of one of them; text tokens before the first picture, which no
adapter of the vision tower can reach, run once through the language layers below the lowest language adapter.
Prior art for models with frozen layers: Nautilus (SIGMOD 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from trainables.cohort.shared_prefix import FrozenPrefix, common_tokens, repeated
from trainables.cohort.stacked_lora import Bank, Group, take
from trainables.data.encoding import IGNORED, Batch
from trainables.model.base import Base, predicted
from trainables.model.families import Blocks, LinearShape
from trainables.model.lora import Adapter

Entered = tuple[tuple[Any, ...], dict[str, Any]]
PER_TOKEN = ("attention_mask", "position_ids", "position_embeddings")


@dataclass(frozen=True)
class GroupLogits:
    """Logits (groups, tokens, vocabulary) in float32 at supervised tokens, their targets, and who is in a group."""

    values: torch.Tensor
    targets: torch.Tensor
    groups: list[Group]


class Fanout:
    """Runs one base for several adapters at once; without `share` every member is computed whole, for comparison."""

    def __init__(self, base: Base, adapters: Sequence[Adapter], share: bool = True) -> None:
        self.base, self.share = base, share
        self.bank = Bank(base, adapters)
        self.groups = self.bank.groups
        self.parting = {
            tower: [self.bank.members_in(block_name(block)) for block in blocks]
            for tower, blocks in base.towers.items()
        }
        self._rows = 0  # of the batch in one group
        self._wide: dict[tuple[Any, ...], Any] = {}  # what is given to a block, made for more groups
        self._prefix: FrozenPrefix | None = None
        self._handles: list[RemovableHandle] = [
            *self._watch(base.towers["vision"], self.parting["vision"], self._enter_vision),
            *self._watch(base.towers["language"], self.parting["language"], self._enter_language),
        ]

    def logits(self, batch: Batch, members: Iterable[int]) -> GroupLogits:
        """Run `members` on a batch; only the positions that predict a supervised token are projected."""
        targets = batch.labels[:, 1:]
        supervised = targets != IGNORED
        with self.running(members, len(batch.labels)):
            out = self._run(self.base.model.model, batch.inputs, batch.labels)
            groups = list(self.groups.now)
        hidden = out.last_hidden_state
        skipped = batch.labels.shape[1] - hidden.shape[1]  # prefix tokens that no group computed
        hidden = hidden.view(len(groups), len(batch.labels), *hidden.shape[1:])
        chosen = hidden[:, :, :-1][:, supervised[:, skipped:]]
        return GroupLogits(predicted(self.base.model, chosen), targets[supervised], groups)

    def prefill(
        self, inputs: Mapping[str, torch.Tensor], members: Iterable[int], cache: Any
    ) -> tuple[Any, list[Group]]:
        """Read prompts for `members`, keys and values into `cache`; returns the model's output and its groups.

        Every layer of the cache then holds the rows of all groups, one group after the other.
        """
        with self.running(members, len(inputs["input_ids"])):
            out = self._run(self.base.model, inputs, None, past_key_values=cache, use_cache=True, logits_to_keep=1)
            for layer in cache.layers:
                count = len(layer.keys) // self._rows
                parents = self.groups.parents(count)
                layer.keys, layer.values = (take(one, parents, count) for one in (layer.keys, layer.values))
            return out, list(self.groups.now)

    @contextmanager
    def running(self, members: Iterable[int], rows: int, groups: Sequence[Group] = ()) -> Iterator[None]:
        """Have the bank act for `members` on `rows` rows a group, or for `groups` as an earlier pass left them."""
        everyone = tuple(members)
        self.groups.begin(groups or ([everyone] if self.share else [(member,) for member in everyone]))
        self._rows = rows
        try:
            yield
        finally:
            self.groups.begin(())
            self._rows, self._prefix = 0, None
            self._wide.clear()

    def remove(self) -> None:
        """Give the base back as it was."""
        self.bank.remove()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # ---------------------------------------------------------------- one pass
    def _run(self, module: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None, **given: Any) -> Any:
        start = 0
        if "pixel_values" in inputs:
            pictures = self._see(inputs)
            positions = self._positions(inputs)
            given["mm_encoder_outputs"] = {"image": pictures}
            self._prefix = self._shared_text(inputs, positions, labels, taps=len(pictures.deepstack_features))
            start = self._prefix.tokens if self._prefix else 0
            given["position_ids"] = positions[..., start:].repeat(1, len(self.groups.now), 1)
        else:
            given["position_ids"] = _text_positions(inputs).repeat(len(self.groups.now), 1)
        count = len(self.groups.now)
        if self._prefix:
            given["past_key_values"] = self._prefix.cache(count)
        if "attention_mask" in inputs:  # packed rows are kept apart by their positions alone
            given["attention_mask"] = inputs["attention_mask"].repeat(count, 1)
        return module(input_ids=inputs["input_ids"][:, start:].repeat(count, 1), **{"use_cache": False, **given})

    def _see(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        model, count = self.base.model.model, len(self.groups.now)
        out = model.visual(inputs["pixel_values"].repeat(count, 1), grid_thw=inputs["image_grid_thw"].repeat(count, 1))
        rows = len(out.pooler_output) // len(self.groups.now)
        # DeepStack adds to the first language layers from outside their blocks, so who parts there parts before them
        self.groups.split(frozenset().union(*self.parting["language"][: len(out.deepstack_features)]))
        # a feature was computed for as many groups as there were where it was tapped
        pooled, *deep = (
            take(one, self.groups.parents(len(one) // rows), len(one) // rows)
            for one in (out.pooler_output, *out.deepstack_features)
        )
        return SimpleNamespace(pooler_output=(pooled,), deepstack_features=[(one,) for one in deep])

    def _positions(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        model = self.base.model.model
        positions, model.rope_deltas = model.get_rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"],
            attention_mask=inputs["attention_mask"],
        )  # fmt: skip
        return positions

    def _shared_text(
        self, inputs: Mapping[str, torch.Tensor], positions: torch.Tensor, labels: torch.Tensor | None, taps: int
    ) -> FrozenPrefix | None:
        if labels is None or len(self.groups.now) == 1 or not self.share:
            return None
        active = self._active()
        first = next((i for i, apart in enumerate(self.parting["language"]) if apart & active), None)
        if first is not None and first < taps:
            return None
        tokens = common_tokens(inputs, labels)
        return FrozenPrefix.run(self.base, inputs, positions, tokens, first) if tokens else None

    def _active(self) -> frozenset[int]:
        return frozenset(member for group in self.groups.now for member in group)

    # ---------------------------------------------------------------- where groups part
    def _watch(self, blocks: Blocks, parting: Sequence[frozenset[int]], enter: Any) -> list[RemovableHandle]:
        modules = [self.base.model.get_submodule(block_name(block)) for block in blocks]
        return [
            module.register_forward_pre_hook(partial(enter, apart), with_kwargs=True)
            for module, apart in zip(modules, parting, strict=True)
        ]

    def _enter_vision(self, apart: frozenset[int], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entered:
        hidden = self._part(args[0], apart)
        count, given = len(self.groups.now), kwargs["position_embeddings"]
        if len(hidden) == len(given[0]):
            return (hidden, *args[1:]), kwargs
        if ("vision", count) not in self._wide:
            self._wide["vision", count] = _more_pictures(kwargs, len(hidden) // len(given[0]))
        return (hidden, *args[1:]), {**kwargs, **self._wide["vision", count]}

    def _enter_language(self, apart: frozenset[int], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entered:
        hidden, count = args[0], len(self.groups.now)
        if self._prefix:
            hidden, kwargs = self._prefix.entering(hidden, kwargs, count, bool(apart & self._active()))
        hidden = self._part(hidden, apart)
        count = len(self.groups.now)
        if len(hidden) == len(kwargs["position_embeddings"][0]):
            return (hidden, *args[1:]), kwargs
        return (hidden, *args[1:]), {**kwargs, **{name: self._widened(kwargs[name], count) for name in PER_TOKEN}}

    def _widened(self, given: Any, count: int) -> Any:
        # blocks share what they are given, but not all of them the same: sliding windows have masks of their own
        key = ("language", id(given), count)
        if key not in self._wide:
            self._wide[key] = given, repeated(given, self._rows, count)
        return self._wide[key][1]

    def _part(self, hidden: torch.Tensor, apart: frozenset[int]) -> torch.Tensor:
        before = len(self.groups.now)
        parents = self.groups.split(apart)
        return hidden if parents is None else take(hidden, parents, before)


def block_name(block: Sequence[LinearShape]) -> str:
    """Return the module that holds all linears of a block: the longest path they have in common."""
    paths = [linear.name.split(".") for linear in block]
    common = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    return ".".join(common)


def _text_positions(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    # for every row: prompts are padded on the left, where positions must not count
    if "position_ids" in inputs:
        return inputs["position_ids"]
    return (inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)


def _more_pictures(kwargs: Mapping[str, Any], times: int) -> dict[str, Any]:
    ends = kwargs["cu_seqlens"]
    return {
        "cu_seqlens": torch.cat([ends, *(ends[1:] + ends[-1] * number for number in range(1, times))]),
        "position_embeddings": tuple(one.repeat(times, 1) for one in kwargs["position_embeddings"]),
    }

"""Applies the adapters of several trials, stacked, to the linears of one base.

PEFT cannot train batches of mixed adapters, nor assign the flat patches of the vision tower to adapters. So forward
hooks apply the LoRA tensors that PEFT created; the modules of the base are not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch.nn.functional import pad
from torch.utils.hooks import RemovableHandle

from trainables.cohort.label_rows import Selection
from trainables.frozen.facts import depends_on_mode
from trainables.model.base import Base
from trainables.model.families import TOWERS, TowerName
from trainables.model.lora import Adapter

Group = tuple[int, ...]
KEYS_AND_VALUES = (".k_proj", ".v_proj")


@dataclass
class Groups:
    """The members that the current pass computes together; there are no groups between passes.

    A member leaves its group at the first block where it differs. Groups only split and never join, so their number
    identifies a state: `history` maps the number of groups to the groups. `selected` are the positions of which the
    running block computes more than keys and values; None for all. `silent` are the linears whose adapters add nothing.
    """

    now: list[Group] = field(default_factory=list)
    history: dict[int, list[Group]] = field(default_factory=dict)
    selected: Selection | None = None
    silent: frozenset[str] = frozenset()

    def begin(self, groups: Sequence[Group]) -> None:
        """Start a pass with these groups; without groups no adapter is applied."""
        self.now, self.selected = list(groups), None
        self.history = {len(self.now): self.now}

    def split(self, members: frozenset[int]) -> list[int] | None:
        """Give each of `members` its own group; return the old number of each new group, or None if nothing changes."""
        new: list[tuple[Group, int]] = []
        for number, group in enumerate(self.now):
            rest = tuple(member for member in group if member not in members)
            new += [(rest, number)] * bool(rest)
            new += [((member,), number) for member in group if member in members]
        if len(new) == len(self.now):
            return None
        self.now = [group for group, _ in new]
        self.history[len(self.now)] = self.now
        return [number for _, number in new]

    def parents(self, count: int) -> list[int]:
        """Return, for each current group, its number when there were `count` groups."""
        earlier = self.history[count]
        return [next(i for i, old in enumerate(earlier) if group[0] in old) for group in self.now]


def take(tensor: torch.Tensor, groups: Sequence[int], count: int) -> torch.Tensor:
    """Select groups of rows: (count x rows, ...) to (len(groups) x rows, ...)."""
    if list(groups) == list(range(count)):
        return tensor
    index = torch.tensor(groups, device=tensor.device)
    return tensor.view(count, -1, *tensor.shape[1:])[index].flatten(0, 1)


@dataclass(frozen=True)
class StackedLinear:
    """The LoRA factors of several members on one linear."""

    layer: str
    factors: dict[int, tuple[torch.Tensor, torch.Tensor]]
    adapters: Sequence[Adapter]
    groups: Groups
    _constants: dict[tuple[object, ...], torch.Tensor] = field(default_factory=dict)

    def add(
        self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        """Add the LoRA update of each member to the rows of its group; used as a forward hook of the linear.

        The rows of one group follow those of the other: (groups x rows, tokens, width) or, in the vision tower,
        (groups x patches, width).
        """
        count = len(self.groups.now)
        numbers = [number for number, group in enumerate(self.groups.now) if group[0] in self.factors]
        if self.layer in self.groups.silent:
            return None
        if not numbers or (self.groups.selected and self.layer.endswith(KEYS_AND_VALUES)):
            return None  # the keys and values of selected positions are known
        present = [self.groups.now[number][0] for number in numbers]
        rows = inputs[0].reshape(count, -1, inputs[0].shape[-1])
        index = None
        if len(numbers) < count:
            index = self._constant(tuple(numbers), torch.long, rows.device)
            rows = rows[index]
        down, up = self._stack(present)
        low = torch.bmm(self._dropped(rows.to(down.dtype), present, module.training), down.mT)
        low = low * self._scales(present, module.training, low)
        whole = output.reshape(count, -1, output.shape[-1])
        if index is None and whole.dtype == low.dtype:
            return torch.baddbmm(whole, low, up.mT).reshape(output.shape)
        update = torch.bmm(low, up.mT).to(whole.dtype)
        return (whole + update if index is None else whole.index_add(0, index, update)).reshape(output.shape)

    def _stack(self, present: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        # smaller ranks are padded with zeros, which do not train
        pairs = [self.factors[member] for member in present]
        rank = max(down.shape[0] for down, _ in pairs)
        downs = [down if len(down) == rank else pad(down, (0, 0, 0, rank - len(down))) for down, _ in pairs]
        ups = [up if up.shape[1] == rank else pad(up, (0, rank - up.shape[1])) for _, up in pairs]
        return torch.stack(downs), torch.stack(ups)

    def _dropped(self, rows: torch.Tensor, present: list[int], training: bool) -> torch.Tensor:
        masks = [self.adapters[member].masks for member in present]
        if not training or not any(one.rate for one in masks):
            return rows
        selected, like = self.groups.selected, rows[0]
        if selected:  # the mask of a trial alone is drawn for all positions
            like = rows.new_empty(1).expand(len(selected.places) * selected.tokens, rows.shape[-1])
        drawn: dict[str, torch.Tensor] = {}
        for one in masks:  # members with equal seed, rate and step have equal masks
            if one.key not in drawn:
                keep = one.keep(self.layer, like)
                drawn[one.key] = keep[selected.flat(groups=1)] if selected else keep
        kept = [drawn[one.key] for one in masks]
        return rows * (kept[0] if len(drawn) == 1 else torch.stack(kept))

    def _scales(self, present: list[int], training: bool, like: torch.Tensor) -> torch.Tensor:
        adapters = [self.adapters[member] for member in present]
        values = tuple(one.scaling * (one.masks.scale if training else 1.0) for one in adapters)
        return self._constant(values, like.dtype, like.device).view(-1, 1, 1)

    def _constant(self, values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        # cached, because each transfer to a GPU waits for its queued work
        key = (values, dtype, device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, dtype=dtype, device=device)
        return self._constants[key]


class StackedLora:
    """The adapters of all members on one base; `groups` are those of the current pass."""

    def __init__(self, base: Base, adapters: Sequence[Adapter]) -> None:
        self.groups = Groups()
        self.adapters = adapters
        factors: dict[str, dict[int, tuple[torch.Tensor, torch.Tensor]]] = {}
        for member, adapter in enumerate(adapters):
            for tower in TOWERS:
                for layer, pair in adapter.factors(tower).items():
                    factors.setdefault(layer, {})[member] = pair
        self.by_layer = factors
        adapted = [base.model.get_submodule(layer) for layer in factors]
        self._with_mode = [base.model] if depends_on_mode(base) else adapted  # each module takes a few microseconds
        self._handles: list[RemovableHandle] = [
            base.model.get_submodule(layer).register_forward_hook(
                partial(StackedLinear.add, StackedLinear(layer, pairs, adapters, self.groups))
            )
            for layer, pairs in factors.items()
        ]

    def members_in(self, block: str) -> frozenset[int]:
        """Return the members that differ from the base in a block, or will after a step.

        A member differs if it trains a tensor in the block, or has a frozen update there that is not zero.
        """
        return frozenset(
            member
            for layer, pairs in self.by_layer.items()
            if layer.startswith(f"{block}.")
            for member, pair in pairs.items()
            if any(factor.requires_grad for factor in pair) or bool(pair[1].any())
        )

    def training_in(self, block: str) -> frozenset[int]:
        """Return the members that train a tensor in a block."""
        return frozenset(
            member
            for layer, pairs in self.by_layer.items()
            if layer.startswith(f"{block}.")
            for member, pair in pairs.items()
            if any(factor.requires_grad for factor in pair)
        )

    @contextmanager
    def without(self, towers: Collection[TowerName]) -> Iterator[None]:
        """Let the adapters on the linears of these towers add nothing."""
        silent = {name for adapter in self.adapters for tower in towers for name in adapter.factors(tower)}
        kept, self.groups.silent = self.groups.silent, frozenset(silent)
        try:
            yield
        finally:
            self.groups.silent = kept

    @contextmanager
    def in_training(self) -> Iterator[None]:
        """Put the adapted linears into train mode, or the whole base where its own mode matters."""
        for module in self._with_mode:
            module.train()
        try:
            yield
        finally:
            for module in self._with_mode:
                module.eval()

    def remove(self) -> None:
        """Remove all hooks from the base."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

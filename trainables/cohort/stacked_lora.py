"""The adapters of several trials, stacked, on each linear of one base that they adapt.

PEFT does not train batches of mixed adapters and cannot route the vision tower's flat patches. So the tensors, made
by PEFT, are applied by forward hooks; the modules of the base stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch.nn.functional import pad
from torch.utils.hooks import RemovableHandle

from trainables.model.base import Base
from trainables.model.families import TOWERS
from trainables.model.lora import Adapter

Group = tuple[int, ...]


@dataclass
class Groups:
    """The members that are computed together in the current pass; no groups between passes.

    A member leaves its group at the first block where it differs. Groups are split but never joined, so their number
    identifies them: `history` holds the groups by how many there were.
    """

    now: list[Group] = field(default_factory=list)
    history: dict[int, list[Group]] = field(default_factory=dict)

    def begin(self, groups: Sequence[Group]) -> None:
        """Start a pass; without groups no adapter is applied."""
        self.now = list(groups)
        self.history = {len(self.now): self.now}

    def split(self, members: frozenset[int]) -> list[int] | None:
        """Give each of `members` a group of its own; returns each new group's old number, None when nothing changes."""
        new: list[tuple[Group, int]] = []
        for number, group in enumerate(self.now):
            stay = tuple(member for member in group if member not in members)
            new += [(stay, number)] * bool(stay)
            new += [((member,), number) for member in group if member in members]
        if len(new) == len(self.now):
            return None
        self.now = [group for group, _ in new]
        self.history[len(self.now)] = self.now
        return [number for _, number in new]

    def parents(self, count: int) -> list[int]:
        """Return, for each current group, the number of the group it came from when there were `count`."""
        then = self.history[count]
        return [next(i for i, old in enumerate(then) if group[0] in old) for group in self.now]


def take(tensor: torch.Tensor, groups: Sequence[int], count: int) -> torch.Tensor:
    """Pick groups of rows: (count x rows, ...) to (len(groups) x rows, ...)."""
    if list(groups) == list(range(count)):
        return tensor
    index = torch.tensor(groups, device=tensor.device)
    return tensor.view(count, -1, *tensor.shape[1:])[index].flatten(0, 1)


@dataclass(frozen=True)
class StackedLinear:
    """LoRA of several members on one linear."""

    layer: str
    factors: dict[int, tuple[torch.nn.Parameter, torch.nn.Parameter]]
    adapters: Sequence[Adapter]
    groups: Groups
    _constants: dict[tuple[object, ...], torch.Tensor] = field(default_factory=dict)

    def add(
        self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        """Add each member's update to the rows of its group; a forward hook of the base's linear.

        Rows are those of all groups, one group after the other: (groups x rows, tokens, width) or, in the vision
        tower, (groups x patches, width).
        """
        count = len(self.groups.now)
        numbers = [number for number, group in enumerate(self.groups.now) if group[0] in self.factors]
        if not numbers:
            return None
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
        # smaller ranks are padded with zeros, which get no gradient
        pairs = [self.factors[member] for member in present]
        rank = max(down.shape[0] for down, _ in pairs)
        downs = [down if len(down) == rank else pad(down, (0, 0, 0, rank - len(down))) for down, _ in pairs]
        ups = [up if up.shape[1] == rank else pad(up, (0, rank - up.shape[1])) for _, up in pairs]
        return torch.stack(downs), torch.stack(ups)

    def _dropped(self, rows: torch.Tensor, present: list[int], training: bool) -> torch.Tensor:
        masks = [self.adapters[member].masks for member in present]
        if not training or not any(one.rate for one in masks):
            return rows
        drawn: dict[str, torch.Tensor] = {}
        for one in masks:  # members of equal seed, rate and step have equal masks
            if one.place not in drawn:
                drawn[one.place] = one.keep(self.layer, rows[0])
        kept = [drawn[one.place] for one in masks]
        return rows * (kept[0] if len(drawn) == 1 else torch.stack(kept))

    def _scales(self, present: list[int], training: bool, like: torch.Tensor) -> torch.Tensor:
        adapters = [self.adapters[member] for member in present]
        values = tuple(one.scaling * (one.masks.scale if training else 1.0) for one in adapters)
        return self._constant(values, like.dtype, like.device).view(-1, 1, 1)

    def _constant(self, values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        # made once: each transfer to a GPU waits for the work that is queued there
        key = (values, dtype, device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, dtype=dtype, device=device)
        return self._constants[key]


class StackedLora:
    """All members' adapters on one base; `groups` holds the members of the current pass."""

    def __init__(self, base: Base, adapters: Sequence[Adapter]) -> None:
        self.groups = Groups()
        self.adapters = adapters
        factors: dict[str, dict[int, tuple[torch.nn.Parameter, torch.nn.Parameter]]] = {}
        for member, adapter in enumerate(adapters):
            for tower in TOWERS:
                for layer, pair in adapter.factors(tower).items():
                    factors.setdefault(layer, {})[member] = pair
        self.by_layer = factors
        self._handles: list[RemovableHandle] = [
            base.model.get_submodule(layer).register_forward_hook(
                partial(StackedLinear.add, StackedLinear(layer, pairs, adapters, self.groups))
            )
            for layer, pairs in factors.items()
        ]

    def members_in(self, block: str) -> frozenset[int]:
        """Return the members that differ from the base in a block, or will after a step, according to their tensors.

        A member differs where it trains a tensor, and where an update that it does not train is not zero.
        """
        return frozenset(
            member
            for layer, pairs in self.by_layer.items()
            if layer.startswith(f"{block}.")
            for member, pair in pairs.items()
            if any(factor.requires_grad for factor in pair) or bool(pair[1].any())
        )

    def remove(self) -> None:
        """Take all hooks off the base."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

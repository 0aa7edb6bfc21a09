"""Keeps a graph only for the groups of a pass that need one.

A group needs a graph from the first block on in which its member trains a tensor. Below it, a pass of unlike depths
would otherwise save activations and send gradients through frozen layers, because other groups need both. So such a
block runs twice: without a graph for the rows of some groups, and with one for those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trainables.cohort.stacked_lora import Group, Groups, take

# returns the inputs of a block for the rows of so many groups
InputsFor = Callable[[torch.Tensor, int], tuple[torch.Tensor, dict[str, Any]]]


@dataclass(frozen=True)
class Halves:
    """The rows of one block, by the numbers of their groups: those without a graph, and those with one."""

    groups: list[Group]
    frozen: tuple[int, ...]
    trained: tuple[int, ...]
    frozen_rows: torch.Tensor


@dataclass
class GraphRows:
    """Splits the rows of a block into those with and those without a graph, and joins them after it."""

    groups: Groups
    _open: Halves | None = None  # of the block that runs
    _joined: torch.Tensor | None = None  # the output of the last block that was split
    _parts: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict)  # what it was joined from

    def enter(
        self, block: Any, hidden: torch.Tensor, training: frozenset[int], inputs_for: InputsFor
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Run the groups that have no member in `training` without a graph; return the inputs for the others.

        The whole block runs at once if all groups are of one kind, or if no graph is wanted.
        """
        everyone = self.groups.now
        trained = tuple(number for number, group in enumerate(everyone) if group[0] in training)
        if not trained or len(trained) == len(everyone) or not torch.is_grad_enabled():
            return inputs_for(hidden, len(everyone))
        frozen = tuple(number for number in range(len(everyone)) if number not in trained)
        with torch.no_grad():
            self.groups.now = [everyone[number] for number in frozen]
            rows, kwargs = inputs_for(self._rows(hidden, frozen, len(everyone)), len(frozen))
            output = block.forward(rows, **kwargs)  # without the hooks of the block, which enter it
        self.groups.selected = None
        self._open = Halves(everyone, frozen, trained, output)
        self.groups.now = [everyone[number] for number in trained]
        return inputs_for(self._rows(hidden, trained, len(everyone)), len(trained))

    def leave(self, output: torch.Tensor) -> torch.Tensor:
        """Join the output of the block with that of the groups without a graph, in the order of the groups."""
        if self._open is None:
            return output
        halves, self._open = self._open, None
        self.groups.now = halves.groups
        self._parts = {halves.frozen: halves.frozen_rows, halves.trained: output}
        by_group = {
            number: rows
            for numbers, part in self._parts.items()
            for number, rows in zip(numbers, part.chunk(len(numbers)), strict=True)
        }
        self._joined = torch.cat([by_group[number] for number in range(len(halves.groups))])
        return self._joined

    def clear(self) -> None:
        """Forget the pass."""
        self._open, self._joined, self._parts = None, None, {}

    def _rows(self, hidden: torch.Tensor, numbers: Sequence[int], count: int) -> torch.Tensor:
        # a part goes from block to block as it is: its graph does not contain the rows of other groups
        if hidden is self._joined and tuple(numbers) in self._parts:
            return self._parts[tuple(numbers)]
        return take(hidden, numbers, count)

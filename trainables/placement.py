"""A placement: which layers of each tower carry LoRA, and on which kind of their linears."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

ModuleKind = Literal["attention", "mlp", "gate-up", "all"]
MODULE_KINDS: tuple[ModuleKind, ...] = ("attention", "mlp", "gate-up", "all")

Tower = Literal["language", "vision"]
Indices = tuple[Annotated[int, Field(ge=0)], ...]

COUNTS: tuple[Tower, ...] = ("language", "vision")


class Placement(BaseModel):
    """Which layers of each tower carry LoRA, and on which kind of linears; without any it is the baseline.

    `language` and `vision` are the numbers of adapted layers. They are the last of their tower, unless
    `language_indices` or `vision_indices` lists others, counted from 0 at the input, in ascending order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: Annotated[int, Field(ge=0)] = 0
    vision: Annotated[int, Field(ge=0)] = 0
    language_indices: Indices = ()
    vision_indices: Indices = ()
    modules: ModuleKind = "all"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for tower in COUNTS:
            count, listed = self.count(tower), self.listed(tower)
            if listed and (len(listed) != count or any(a >= b for a, b in itertools.pairwise(listed))):
                raise ValueError(
                    f"`{tower}_indices` must list {count} layers in ascending order, as `{tower}` counts, but got "
                    f"{list(listed)}"
                )
        if self.is_baseline and self.modules != "all":
            raise ValueError(f"a kind of modules needs an adapted layer, but got {self.modules} and no layer")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # placements of last layers are written, and identified, as in versions that had no others
        fields = type(self).model_fields
        return {
            name: value
            for name, value in handler(self).items()
            if name in COUNTS or getattr(self, name) != fields[name].default
        }

    @property
    def is_baseline(self) -> bool:
        """True when no tower carries an adapter."""
        return self.language == 0 and self.vision == 0

    def count(self, tower: Tower) -> int:
        """Return the number of adapted layers of a tower."""
        return self.language if tower == "language" else self.vision

    def listed(self, tower: Tower) -> tuple[int, ...]:
        """Return the listed layers of a tower, empty where they are the last."""
        return self.language_indices if tower == "language" else self.vision_indices

    def indices(self, tower: Tower, layers: int) -> tuple[int, ...]:
        """Return the adapted layers of a tower that has so many layers, counted from 0 at the input."""
        return self.listed(tower) or tuple(range(layers - self.count(tower), layers))

    def depth(self, tower: Tower, layers: int) -> int:
        """Return how many layers there are from the lowest adapted one to the last of a tower; 0 if none is adapted."""
        return layers - min(self.indices(tower, layers), default=layers)

    def describe(self, tower: Tower) -> str:
        """Return in words which layers of a tower are adapted, and on which linears."""
        name = "language layers" if tower == "language" else "vision blocks"
        listed = self.listed(tower)
        which = f"{name} {ranges(listed, ', ')}, counted from 0" if listed else f"the last {self.count(tower)} {name}"
        return which if self.modules == "all" else f"the {self.modules} linears of {which}"

    def __str__(self) -> str:
        towers = ((letter, self.count(tower), self.listed(tower)) for letter, tower in zip("LV", COUNTS, strict=True))
        parts = [f"{letter}{count}" + (f"({ranges(listed)})" if listed else "") for letter, count, listed in towers]
        return "-".join([*parts, *([] if self.modules == "all" else [self.modules])])


def ranges(indices: Sequence[int], between: str = "+") -> str:
    """Write ascending numbers briefly: `0-2+5`, and from four on with equal distances `1-35by2`.

    The signs are those that the name of an arm can have, in a file and on a command line.
    """
    steps = {b - a for a, b in itertools.pairwise(indices)}
    if len(indices) > 3 and len(steps) == 1 and steps != {1}:
        return f"{indices[0]}-{indices[-1]}by{steps.pop()}"
    runs: list[list[int]] = []
    for one in indices:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return between.join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

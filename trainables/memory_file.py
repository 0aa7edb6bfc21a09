"""The file of a record that says how a trial was fitted into the memory of its device; absent if it fitted at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.io.files import FileDamaged, read_json

MEMORY_FILE = "memory.json"
FORECAST_FILE = "forecast.json"  # of the experiment: what each trial is forecast to take, and how its steps begin


@dataclass(frozen=True)
class Fit:
    """How a batch is run: in `parts` of its rows, and whether activations are computed again in the backward."""

    parts: int = 1
    checkpointing: bool = False

    @property
    def is_smaller(self) -> bool:
        """True when less than whole batches with all activations is held at a time."""
        return self != WHOLE

    def smaller(self, lines: int, can_checkpoint: bool = True) -> Fit | None:
        """Return what takes less memory for batches of `lines` rows; None if nothing does."""
        if self.parts < lines:
            return replace(self, parts=min(lines, 2 * self.parts))
        return replace(self, checkpointing=True) if can_checkpoint and not self.checkpointing else None

    def __str__(self) -> str:
        rows = "whole micro-batches" if self.parts == 1 else f"micro-batches in {self.parts} parts"
        return f"{rows}, activations {'computed twice' if self.checkpointing else 'kept'}"


WHOLE = Fit()


@dataclass(frozen=True)
class FitChange:
    """Why a step did not fit, and how it ran then; `members` is how many trials the pass had, if it was split."""

    step: int
    reason: str
    fit: Fit
    members: int = 1


@dataclass(frozen=True)
class MemoryNotes:
    """How a trial runs now, and every change up to it."""

    fit: Fit = WHOLE
    changes: tuple[FitChange, ...] = ()

    @classmethod
    def read(cls, values: Any, path: Path) -> MemoryNotes:
        """Return the notes of a file's content.

        Raises:
            FileDamaged: it is not as it was written.
        """
        try:
            changes = tuple(FitChange(**{**one, "fit": _fit(one["fit"])}) for one in values["changes"])
            return cls(_fit(values["fit"]), changes)
        except (KeyError, TypeError, AttributeError):
            raise FileDamaged(f"{path}: the file must be as it was written, but it has another shape",
                              "delete it: the trial then finds out anew what fits") from None  # fmt: skip

    @property
    def text(self) -> str:
        """Return the notes in a sentence; empty if everything fitted at once."""
        if not self.changes:
            return ""
        split = [one.members for one in self.changes if one.members > 1]
        parts = [f"a pass of {max(split)} trials was split"] if split else []
        last = [one for one in self.changes if one.members == 1]
        parts += [f"from step {last[-1].step} on {self.fit}"] if last else []
        return f"memory ran out: {'; '.join(parts)}"


def planned_fit(experiment: Path, trial_id: str) -> Fit:
    """Return how the plan lets the steps of a trial begin; whole batches if it says nothing about the trial.

    Raises:
        FileDamaged: the file of the forecast is not as it was written.
    """
    path = experiment / FORECAST_FILE
    if not path.is_file():
        return WHOLE
    try:
        return next((_fit(one["fit"]) for one in read_json(path) if one["trial_id"] == trial_id), WHOLE)
    except (KeyError, TypeError, AttributeError):
        raise FileDamaged(f"{path}: the file must be as it was written, but it has another shape",
                          "delete it: trials then find out by themselves what fits") from None  # fmt: skip


def _fit(values: Mapping[str, Any]) -> Fit:
    fit = Fit(**values)
    if type(fit.parts) is not int or fit.parts < 1 or type(fit.checkpointing) is not bool:
        raise TypeError("a fit has a number of parts and a truth value")
    return fit

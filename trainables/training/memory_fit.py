"""Fits the steps of a trial into the memory of its device: fewer rows a pass, then activations computed twice.

A trial that runs out of memory halves the rows of a pass and doubles the passes of a step, until a pass has one row;
then it computes activations again in the backward instead of keeping them (Chen et al. 2016, arXiv 1604.06174). Its
loss and gradients stay those of the whole step (`batch_parts`). What fitted is kept in the trial's record, and trials
of the same shape on the same engine start from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from trainables.io.files import read_json, write_json
from trainables.memory_file import MEMORY_FILE, Fit, FitChange, MemoryNotes, planned_fit
from trainables.record import Record
from trainables.training.failures import memory_errors
from trainables.training.gradients import can_checkpoint, checkpointing

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.spec import TrialSpec


def shape_of(spec: TrialSpec) -> tuple[object, ...]:
    """Return what decides on one engine whether a step of a trial fits: what it adapts, and the rows of a pass."""
    return (spec.placement, spec.target_modules, spec.rank, spec.batch_rows, spec.max_tokens, spec.packed_tokens)


@dataclass
class MemoryFit:
    """How the steps of one trial fit the memory, with its record's notes of every change."""

    engine: Engine
    spec: TrialSpec
    record: Record
    notes: MemoryNotes

    @classmethod
    def of(cls, engine: Engine, spec: TrialSpec, record: Record) -> MemoryFit:
        """Return the fit of a trial: as its record left it, else as an equal one on this engine, else as planned."""
        path = record.directory / MEMORY_FILE
        if path.is_file():
            return cls(engine, spec, record, MemoryNotes.read(read_json(path), path))
        made, known = cls(engine, spec, record, MemoryNotes()), engine.fits.get(shape_of(spec))
        planned = planned_fit(record.home.parent.parent, spec.trial_id)
        if known is not None:
            made._change(known, 0, "an earlier trial of the same shape needed it")
        elif planned.is_smaller:
            made._change(planned, 0, "the plan forecast that more would not fit")
        return made

    @property
    def fit(self) -> Fit:
        """Return how the next step runs."""
        return self.notes.fit

    def run(self, step: int, lines: int, work: Callable[[Fit], float], forget: Callable[[], None]) -> float:
        """Run the passes of a step by `work`, smaller as long as they do not fit; `lines` are those of a batch.

        `forget` drops the gradients of a step that broke off.

        Raises:
            torch.OutOfMemoryError: one row a pass does not fit, even with activations computed twice.
        """
        while True:
            try:
                with memory_errors():
                    return work(self.fit)
            except torch.OutOfMemoryError as error:
                reason = str(error).strip().splitlines()[0]
                smaller = self.fit.smaller(lines, can_checkpoint(self.engine.base))
                if smaller is None:
                    forget()
                    raise torch.OutOfMemoryError(f"{reason} ({self.fit}, which is the least)") from error
            # beyond the handler, whose traceback would keep the tensors of the failed step
            forget()
            release(self.engine.base.device)
            self._change(smaller, step, reason)

    def tested(self, work: Callable[[], Any]) -> Any:
        """Run the self-test, once more with activations computed twice if it does not fit."""
        try:
            with memory_errors():
                return work()
        except torch.OutOfMemoryError:
            if not can_checkpoint(self.engine.base):
                raise
        release(self.engine.base.device)
        with checkpointing(self.engine.base.model), memory_errors():
            return work()

    def note_split(self, step: int, members: int, reason: str) -> None:
        """Note that a pass of several trials did not fit and was split."""
        self._write(replace(self.notes, changes=(*self.notes.changes, FitChange(step, reason, self.fit, members))))

    def _change(self, fit: Fit, step: int, reason: str) -> None:
        self.engine.fits[shape_of(self.spec)] = fit
        self._write(MemoryNotes(fit, (*self.notes.changes, FitChange(step, reason, fit))))

    def _write(self, notes: MemoryNotes) -> None:
        self.notes = notes
        write_json(self.record.directory / MEMORY_FILE, asdict(notes))


def release(device: torch.device) -> None:
    """Give memory that is reserved but not used back to the device, which may lie in pieces too small."""
    if device.type == "cuda":
        torch.cuda.empty_cache()

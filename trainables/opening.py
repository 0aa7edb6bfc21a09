"""How a continued trial begins: its parent's adapter is proved to be the one that was planned, then taken over."""

from __future__ import annotations

from pathlib import Path

from trainables import continuation
from trainables.adapters import Adapter
from trainables.handover import LINEAGE, lineage_of
from trainables.optim import Optimizer
from trainables.record import Record, write_json
from trainables.spec import TrialSpec


def take_over(parent: Path, spec: TrialSpec, adapter: Adapter, optimizer: Optimizer, record: Record) -> None:
    """Load the parent into a fresh adapter and write `lineage.json`.

    Raises:
        UserError: the parent cannot be continued, or changed since it was planned.
        PlacementMismatch: an extended adapter is not its parent's equal.
    """
    saved = continuation.opened(spec, adapter.placement)
    if spec.continuation == "same":
        adapter.load(parent)
    else:
        adapter.extend_from(parent)
    if spec.optimizer == "resumed":
        optimizer.load(parent)
    new_modules = len(continuation.extension(saved, adapter.placement))
    lineage = lineage_of(spec, continuation.base_standing(saved, spec), new_modules)
    write_json(record.directory / LINEAGE, lineage)

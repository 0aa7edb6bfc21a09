"""What each trial was forecast to take beside what it took, from the records on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.io.files import read_json
from trainables.memory_file import FORECAST_FILE, MEMORY_FILE, MemoryNotes
from trainables.record import Record

HEADER = ("trial", "forecast GB", "measured GB", "forecast FLOPs", "seconds", "FLOPs a second", "memory")


def forecast_rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return a row for every trial with a forecast; empty for experiments that were begun without one.

    Measured memory is what was allocated on a GPU, and on a CPU the whole process, which the forecast does not count.

    Raises:
        FileDamaged: `memory.json` of a record is not as it was written.
    """
    rows = []
    for record in records:
        path = record.home.parent.parent / FORECAST_FILE
        known = read_json(path) if path.is_file() else []
        own = next((one for one in known if one["trial_id"] == record.spec().trial_id), None)
        trained = [one.metrics for one in record.measurements() if one.kind == "train"]
        if own is None or not trained:
            continue
        seconds = trained[-1]["train_seconds"] + trained[-1]["eval_seconds"]
        rows.append((
            record.spec().name, f"{own['peak_bytes'] / 1e9:.3g}", f"{trained[-1]['peak_memory_mb'] / 1e3:.3g}",
            f"{own['flops']:.3g}", f"{seconds:.0f}", f"{own['flops'] / seconds:.2g}" if seconds else "-",
            notes_of(record),
        ))  # fmt: skip
    return rows


def notes_of(record: Record) -> str:
    """Return how a trial was made to fit its memory; empty if it fitted at once."""
    path = record.directory / MEMORY_FILE
    return MemoryNotes.read(read_json(path), path).text if path.is_file() else ""

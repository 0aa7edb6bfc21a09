"""Builds scans by hand: valid rows, preceded by the faulty rows of a test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trainables.data.scan import Scan, ScannedRow


def row(row_id: str, **changes: object) -> ScannedRow:
    """Make a sound row of forty tokens, five of them supervised, with one picture of its own."""
    own = ScannedRow(row_id, f"question {row_id}", f"answer {row_id}", (f"picture {row_id}",), 40, 5, 16)
    return replace(own, **changes)


def rows(name: str, count: int, **changes: object) -> tuple[ScannedRow, ...]:
    return tuple(row(f"{name}-{index}", **changes) for index in range(count))


def scan_of(
    train: Iterable[ScannedRow] = (), validation: Iterable[ScannedRow] = (), ood: Iterable[ScannedRow] = ()
) -> Scan:
    """Make a scan: the rows given, then sound ones up to a thousand for training and a hundred for each eval."""
    given = {"train": tuple(train), "validation": tuple(validation), "ood": tuple(ood)}
    sizes = {"train": 1000, "validation": 100, "ood": 100}
    return Scan(**{name: few + rows(name, sizes[name] - len(few)) for name, few in given.items()})

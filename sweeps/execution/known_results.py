"""Gives baselines the results that this storage already knows, and lets it know those that a launch measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainables.attempt import claim
from trainables.errors import UserError
from trainables.io.files import FileDamaged
from trainables.known_baselines import forget_source, key_of, known_baseline, measured_by, remember, take_over
from trainables.phase import forget_phase
from trainables.record import Record

FRESH = "--fresh-baseline measures it again"


def reuse(
    baselines: Sequence[Record], storage: Path, device: str, launch: int, say: Callable[[str], None]
) -> list[Record]:
    """Give baselines without a result those that the storage knows; return the ones that must still be measured.

    Args:
        baselines: the records of baselines without a verdict.
        storage: the directory of the experiments.
        device: the kind of device that would measure them.
        launch: the number of the launch, which claims the records.
        say: shows a line to the user.
    """
    left = []
    for record in baselines:
        spec = record.spec()
        try:
            found = known_baseline(storage, key_of(spec, device))
        except FileDamaged as error:
            say(f"{spec.name} is measured again: {error.message}")
            found = None
        if found is None:
            left.append(record)
            continue
        known, source = found
        forget_phase(record.directory)
        take_over(known, source, claim(record, launch))
        say(f"{spec.name} is not measured again: its results are those of {source}; {FRESH}")
    return left


def measured_anew(baselines: Sequence[Record]) -> None:
    """Forget where baselines that are about to be measured had results from, in a launch that was killed meanwhile."""
    for record in baselines:
        forget_source(record)


def keep(baselines: Sequence[Record], storage: Path, device: str) -> None:
    """Let the storage know baselines that this launch has measured."""
    for record in baselines:
        remember(storage, key_of(record.spec(), device), record)


def sources_text(baselines: Sequence[Record]) -> list[str]:
    """Return a line for each baseline that has its results from another record."""
    lines = []
    for record in baselines:
        try:
            source = measured_by(record)
        except UserError:
            continue  # the record is damaged, which its own check says
        if source is not None:
            lines.append(f"{record.spec().name}: measured by {source}")
    return lines

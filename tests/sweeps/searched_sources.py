"""The miniature as the sources of a search; only the base's configuration is read."""

from __future__ import annotations

from pathlib import Path

from sweeps.planning.sources import Sources
from trainables.mini import BASE_DIRECTORY
from trainables.spec import Source

TRAIN, VALIDATION, OOD = (Source(path=Path(name), sha256=name) for name in ("train", "validation", "ood"))
SOURCES = Sources(
    base=Source(path=BASE_DIRECTORY, sha256="ba5e"),
    train=TRAIN,
    validation=VALIDATION,
    ood=OOD,
    train_rows=960,
    is_miniature=True,
)

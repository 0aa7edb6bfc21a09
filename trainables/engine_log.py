"""Where a trial trained: an entry in its record for each time that an engine opened it. No result depends on it."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from trainables.io.files import read_json, write_json

FILE = "engines.json"


@dataclass(frozen=True)
class EngineUse:
    """The engine that opened a trial: its node, device, number of threads, and how it held the base's weights.

    `weights` says whether other engines of the node use the same memory, or why they do not; it is empty where an
    engine is alone on its node. Both are empty in records of earlier versions.
    """

    node: str
    device: str
    threads: int
    residency: str = ""
    weights: str = ""


def add_use(directory: Path, device: str, threads: int, residency: str, weights: str = "") -> None:
    """Add to the record in `directory` that an engine on this node opens the trial."""
    added = EngineUse(platform.node(), device, threads, residency, weights)
    write_json(directory / FILE, [asdict(one) for one in (*uses(directory), added)])


def uses(directory: Path) -> list[EngineUse]:
    """Return the engines that opened the trial of a record, in order of time.

    Raises:
        FileDamaged: the file is no JSON.
    """
    path = directory / FILE
    return [EngineUse(**one) for one in read_json(path)] if path.exists() else []

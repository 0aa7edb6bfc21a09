"""Engines that keep activations, for the tests of trainables/frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainables.engine import Engine
from trainables.frozen.entry_files import EntryFiles
from trainables.frozen.entry_memory import EntryMemory
from trainables.frozen.kept import KeptActivations
from trainables.frozen.store import Store

MEGABYTES_64 = 64 * 2**20


def keeping(engine: Engine, memory_bytes: int = MEGABYTES_64, directory: Path | None = None,
            file_bytes: int = MEGABYTES_64) -> Engine:  # fmt: skip
    """Return the engine with a store of its own, which is empty unless `directory` has files."""
    files = EntryFiles(directory, file_bytes) if directory else None
    store = Store(EntryMemory(memory_bytes), files)
    return replace(engine, kept=KeptActivations(engine.base, engine.encoder, store))


def kept_of(engine: Engine) -> KeptActivations:
    """Return what an engine keeps."""
    assert engine.kept is not None
    return engine.kept

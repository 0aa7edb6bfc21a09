"""Kept activations in memory, then in files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainables.frozen.budget import free_memory, memory_budget
from trainables.frozen.entry_files import EntryFiles
from trainables.frozen.entry_memory import Entry, EntryMemory
from trainables.frozen.settings import CacheSettings


@dataclass
class Uses:
    """How often an entry was computed, found in memory, and read from a file."""

    computed: int = 0
    from_memory: int = 0
    from_file: int = 0


@dataclass
class Store:
    """Entries by the keys of their trunk and their row; `files` is None if they are kept in memory alone."""

    memory: EntryMemory
    files: EntryFiles | None = None
    uses: Uses = field(default_factory=Uses)

    @classmethod
    def of(cls, settings: CacheSettings) -> Store | None:
        """Return the store of some settings, None where nothing is to be kept."""
        if not settings.is_on:
            return None
        files = EntryFiles(Path(settings.directory), settings.file_bytes) if settings.directory else None
        return cls(EntryMemory(memory_budget(free_memory())), files)

    def get(self, trunk: str, row: str, lasting: bool) -> Entry | None:
        """Return an entry, None if it has to be computed."""
        if (found := self.memory.get(trunk, row)) is not None:
            self.uses.from_memory += 1
            return found
        found = self.files.read(trunk, row) if self.files is not None and lasting else None
        if found is not None:
            self.uses.from_file += 1
            self.memory.put(trunk, row, found, lasting)
        return found

    def put(self, trunk: str, row: str, entry: Entry, lasting: bool) -> Entry:
        """Keep a computed entry; return the one to use, which another process may have computed before."""
        self.uses.computed += 1
        if self.files is not None and lasting:
            entry = self.files.write(trunk, row, entry)
        self.memory.put(trunk, row, entry, lasting)
        return entry

    def read_ahead(self, trunk: str, row: str) -> None:
        """Prepare an entry that will be read soon, if it is in a file."""
        if self.files is not None:
            self.files.read_ahead(trunk, row)

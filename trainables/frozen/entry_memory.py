"""Kept activations in memory: rows that are read every epoch stay, others make room.

Epochs read rows in another order each time, so the least recently used entry is no guide: a data set larger than the
memory would push out every row before it is read again. So the first rows that come stay. They give way only when
their trunk, which another place or another base replaces, has not been read for a long time. What does not fit among
them, and what one trial alone reads, shares a part of the memory in which the least recently used entry gives way.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import torch

Entry = tuple[torch.Tensor, ...]

PASSING_SHARE = 0.125  # of the memory
STALE_READS = 4096  # reads of other trunks, after which one gives way


def entry_bytes(entry: Entry) -> int:
    """Return the size of an entry."""
    return sum(one.numel() * one.element_size() for one in entry)


@dataclass
class _Trunk:
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 0
    read_at: int = 0


@dataclass
class EntryMemory:
    """Entries by the keys of their trunk and their row, of at most `most_bytes` in all."""

    most_bytes: int
    lasting_bytes: int = 0
    passing_bytes: int = 0
    _reads: int = 0
    _lasting: dict[str, _Trunk] = field(default_factory=dict)
    _passing: OrderedDict[tuple[str, str], Entry] = field(default_factory=OrderedDict)

    @property
    def room_bytes(self) -> int:
        """Return the most bytes of the rows that stay."""
        return self.most_bytes - int(PASSING_SHARE * self.most_bytes)

    def get(self, trunk: str, row: str) -> Entry | None:
        """Return an entry, None if it is not kept."""
        self._reads += 1
        if trunk in self._lasting:
            self._lasting[trunk].read_at = self._reads
            if (found := self._lasting[trunk].entries.get(row)) is not None:
                return found
        if (trunk, row) in self._passing:
            self._passing.move_to_end((trunk, row))
            return self._passing[trunk, row]
        return None

    def put(self, trunk: str, row: str, entry: Entry, lasting: bool) -> None:
        """Keep a copy of an entry if there is room for it; what was given may be mapped from a file."""
        size = entry_bytes(entry)
        if lasting and self._fits(trunk, size):
            own = self._lasting.setdefault(trunk, _Trunk(read_at=self._reads))
            if row not in own.entries:
                own.entries[row] = _copied(entry)
                own.size += size
                self.lasting_bytes += size
            return
        most = int(PASSING_SHARE * self.most_bytes)
        if size > most or (trunk, row) in self._passing:
            return
        while self.passing_bytes + size > most:
            self.passing_bytes -= entry_bytes(self._passing.popitem(last=False)[1])
        self._passing[trunk, row] = _copied(entry)
        self.passing_bytes += size

    def _fits(self, trunk: str, size: int) -> bool:
        while self.lasting_bytes + size > self.room_bytes:
            others = {key: one for key, one in self._lasting.items() if key != trunk}
            oldest = min(others, key=lambda key: others[key].read_at, default=None)
            if oldest is None or self._reads - others[oldest].read_at < STALE_READS:
                return False
            self.lasting_bytes -= self._lasting.pop(oldest).size
        return True


def _copied(entry: Entry) -> Entry:
    return tuple(one.clone() for one in entry)

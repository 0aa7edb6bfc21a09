"""Tests which entries stay in memory."""

from __future__ import annotations

import torch

from trainables.frozen import entry_memory
from trainables.frozen.entry_memory import Entry, EntryMemory

SIZE = 80  # bytes of an entry


def entry(value: float) -> Entry:
    return (torch.full((10,), value, dtype=torch.float64),)


def memory(entries: int) -> EntryMemory:
    """Return a memory with room for so many lasting entries, and one passing entry for each seven."""
    return EntryMemory(SIZE * entries)


def test_the_first_rows_stay_when_the_memory_is_full() -> None:
    kept = memory(16)
    for number in range(40):
        kept.put("trunk", str(number), entry(number), lasting=True)
    assert [number for number in range(40) if kept.get("trunk", str(number))] == [*range(14), 38, 39]
    assert kept.lasting_bytes == 14 * SIZE and kept.passing_bytes == 2 * SIZE


def test_epochs_in_any_order_find_the_same_rows() -> None:
    kept = memory(16)
    for number in [*range(30), *reversed(range(30)), *range(30)]:
        if kept.get("trunk", str(number)) is None:
            kept.put("trunk", str(number), entry(number), lasting=True)
    assert all(kept.get("trunk", str(number)) is not None for number in range(14))


def test_rows_of_one_trial_push_out_no_others() -> None:
    kept = memory(16)
    for number in range(14):
        kept.put("trunk", str(number), entry(number), lasting=True)
    for number in range(100, 200):
        kept.put("trunk", str(number), entry(number), lasting=False)
    assert all(kept.get("trunk", str(number)) is not None for number in range(14))
    assert [number for number in range(100, 200) if kept.get("trunk", str(number))] == [198, 199]
    assert kept.passing_bytes == 2 * SIZE


def test_a_trunk_that_nobody_reads_any_more_gives_way() -> None:
    kept = memory(16)
    for number in range(14):
        kept.put("old", str(number), entry(number), lasting=True)
    kept.put("new", "0", entry(0), lasting=True)
    assert kept.lasting_bytes == 14 * SIZE, "the old one was read a moment ago"
    for _ in range(entry_memory.STALE_READS):
        kept.get("new", "1")
    kept.put("new", "1", entry(1), lasting=True)
    assert kept.get("old", "0") is None and kept.lasting_bytes == SIZE


def test_an_entry_is_a_copy_and_is_counted_once() -> None:
    kept, own = memory(16), entry(1)
    kept.put("trunk", "row", own, lasting=True)
    kept.put("trunk", "row", own, lasting=True)
    own[0].zero_()
    found = kept.get("trunk", "row")
    assert found is not None and bool((found[0] == 1).all()) and kept.lasting_bytes == SIZE


def test_without_memory_nothing_is_kept() -> None:
    kept = memory(0)
    kept.put("trunk", "row", entry(1), lasting=True)
    assert kept.get("trunk", "row") is None and kept.lasting_bytes == kept.passing_bytes == 0

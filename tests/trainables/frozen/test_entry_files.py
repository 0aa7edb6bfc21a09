"""Tests that an entry is read as it was written or not at all, and that files stay within their limit."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from trainables.frozen import entry_files
from trainables.frozen.entry_files import EntryFiles
from trainables.frozen.entry_memory import Entry

PLENTY = 10**7


def entry(value: float) -> Entry:
    return (torch.full((50, 8), float(value)), torch.full((3,), float(value), dtype=torch.bfloat16))


def equal(one: Entry | None, other: Entry) -> bool:
    return one is not None and all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


def size_of(directory: Path) -> int:
    return sum(one.stat().st_size for one in directory.glob("*/*.safetensors"))


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = EntryFiles(tmp_path / "new" / "cache", PLENTY)
    assert files.read("trunk", "row") is None
    assert equal(files.write("trunk", "row", entry(1)), entry(1))
    files.read_ahead("trunk", "row")
    files.read_ahead("trunk", "another")
    assert equal(EntryFiles(tmp_path / "new" / "cache", PLENTY).read("trunk", "row"), entry(1))
    assert not files.problem


@pytest.mark.parametrize("damage", ["flip", "header", "cut", "empty", "text"])
def test_a_damaged_file_counts_as_missing_and_is_written_again(tmp_path: Path, damage: str) -> None:
    files = EntryFiles(tmp_path, PLENTY)
    files.write("trunk", "row", entry(1))
    path = tmp_path / "trunk" / "row.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    if damage == "header":
        content[20] ^= 1
    kept = {"cut": content[:-7], "empty": b"", "text": b"no tensor"}.get(damage, content)
    path.unlink()  # the file itself is mapped by nobody, but a new one is safe
    path.write_bytes(kept)
    assert files.read("trunk", "row") is None
    assert equal(files.write("trunk", "row", entry(2)), entry(2))
    assert equal(files.read("trunk", "row"), entry(2))


@pytest.mark.parametrize("place", [("other", "row"), ("trunk", "other")])
def test_a_file_from_another_place_counts_as_missing(tmp_path: Path, place: tuple[str, str]) -> None:
    files = EntryFiles(tmp_path, PLENTY)
    files.write("trunk", "row", entry(1))
    foreign = tmp_path / place[0] / f"{place[1]}.safetensors"
    foreign.parent.mkdir(exist_ok=True)
    shutil.copy(tmp_path / "trunk" / "row.safetensors", foreign)
    assert files.read(*place) is None


def test_the_first_process_decides_what_all_use(tmp_path: Path) -> None:
    first, second = EntryFiles(tmp_path, PLENTY), EntryFiles(tmp_path, PLENTY)
    first.write("trunk", "row", entry(1))
    assert equal(second.write("trunk", "row", entry(1 + 1e-7)), entry(1))


def test_files_stay_within_their_limit_and_the_rest_is_not_kept(tmp_path: Path) -> None:
    EntryFiles(tmp_path, PLENTY).write("trunk", "size", entry(0))
    one = size_of(tmp_path)
    shutil.rmtree(tmp_path / "trunk")
    files = EntryFiles(tmp_path, 3 * one + one // 2)
    for number in range(6):
        assert equal(files.write("trunk", f"r{number:03}", entry(number)), entry(number))
    assert sorted(path.stem for path in tmp_path.glob("trunk/*.safetensors")) == ["r000", "r001", "r002"]
    assert size_of(tmp_path) <= files.most_bytes


def test_a_trunk_that_nobody_read_for_an_hour_gives_way(tmp_path: Path) -> None:
    files = EntryFiles(tmp_path, PLENTY)
    files.write("old", "row", entry(1))
    files.read("old", "row")
    full = EntryFiles(tmp_path, size_of(tmp_path) + 10)
    full.write("new", "row", entry(2))
    assert full.read("new", "row") is None, "the old one was read a moment ago"
    long_ago = time.time() - entry_files.STALE_SECONDS - 10
    os.utime(tmp_path / "old" / entry_files.STAMP, (long_ago, long_ago))
    full.write("new", "row", entry(2))
    assert equal(full.read("new", "row"), entry(2)) and not (tmp_path / "old").exists()


def test_what_a_killed_process_left_is_removed_and_not_counted(tmp_path: Path) -> None:
    files = EntryFiles(tmp_path, PLENTY)
    files.write("trunk", "row", entry(1))
    left = tmp_path / "trunk" / f"half{entry_files.TEMPORARY}"
    left.write_bytes(b"half of an entry")
    (tmp_path / entry_files.COUNT).write_text("{", encoding="utf-8")
    again = EntryFiles(tmp_path, PLENTY)
    assert not left.exists() and again._counted() == size_of(tmp_path)


def test_a_directory_that_cannot_be_written_keeps_nothing_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    files = EntryFiles(tmp_path / "file" / "cache", PLENTY)
    assert "file" in files.problem
    assert equal(files.write("trunk", "row", entry(1)), entry(1)) and files.read("trunk", "row") is None


def _write_many(directory: str, most_bytes: int, own: float, barrier: object) -> None:
    files = EntryFiles(Path(directory), most_bytes)
    barrier.wait()  # type: ignore[attr-defined]
    for number in range(40):
        files.write("trunk", f"r{number:03}", entry(number + own))


def test_two_processes_write_one_entry_once_and_keep_one_limit(tmp_path: Path) -> None:
    EntryFiles(tmp_path / "size", PLENTY).write("trunk", "r000", entry(0))
    most = 30 * size_of(tmp_path / "size")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [
        context.Process(target=_write_many, args=(str(tmp_path / "both"), most, own, barrier)) for own in (0.0, 0.5)
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
    assert [one.exitcode for one in writers] == [0, 0]
    files = EntryFiles(tmp_path / "both", most)
    assert size_of(tmp_path / "both") == files._counted() <= most
    kept = [files.read("trunk", f"r{number:03}") for number in range(40)]
    assert sum(one is not None for one in kept) == 30
    assert all(equal(one, entry(number)) or equal(one, entry(number + 0.5)) for number, one in enumerate(kept) if one)

"""Tests that a large file is read once as long as it is the same, and again after any change."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.io import checksums
from trainables.io.checksums import bytes_to_read, sha256_of_files, verified, with_checksum

MIDDLE = 700_000
Hashed = Callable[[Path], tuple[str, int]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own cache, in which files that were written just now are kept too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "SETTLED_NANOSECONDS", -1)
    return tmp_path / "cache" / "footprint"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\x00" * 2**20 + b"end")
    return path


def hashed(path: Path) -> tuple[str, int]:
    """Return the digest of a file, and how many bytes were read for it."""
    read: list[int] = []
    [digest] = sha256_of_files([path], read.append)
    return digest, sum(read)


def true_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_large_file_is_read_once(cache: Path, large: Path) -> None:
    size = large.stat().st_size
    assert bytes_to_read([large]) == size
    assert hashed(large) == (true_digest(large), size)
    assert hashed(large) == (true_digest(large), 0)
    assert bytes_to_read([large]) == 0


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[MIDDLE] ^= 1
    path.write_bytes(data)


def flip_and_set_back_the_time(path: Path) -> None:
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_file_of_the_same_time(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    flip(other)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def point_a_link_elsewhere(path: Path) -> None:
    flip(Path(shutil.copy2(path, path.with_name("other"))))
    path.unlink()
    path.symlink_to("other")


CHANGES = [flip, flip_and_set_back_the_time, replace_by_a_file_of_the_same_time, point_a_link_elsewhere]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_read_again(change: Callable[[Path], None], cache: Path, large: Path) -> None:
    before, _ = hashed(large)
    change(large)
    assert hashed(large) == (true_digest(large), large.stat().st_size)
    assert hashed(large)[0] != before


def test_a_damaged_cache_costs_time_only(cache: Path, large: Path) -> None:
    digest, size = hashed(large)
    [entry] = cache.rglob("*.json")
    kept = entry.read_bytes()
    for place in range(len(kept)):
        entry.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
        assert sha256_of_files([large]) == [digest]
    for damage in (b"", b"[]", b"{}", b"\xff", kept[:-9]):
        entry.write_bytes(damage)
        assert hashed(large) == (digest, size)


def test_a_cache_that_cannot_be_written_costs_time_only(
    cache: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the directory would be")
    assert hashed(large) == hashed(large) == (true_digest(large), large.stat().st_size)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert hashed(large)[0] == true_digest(large)


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_file_that_changed_just_now_is_not_remembered(
    cache: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the file system's clock it could change again and keep its times."""
    monkeypatch.setattr(checksums, "SETTLED_NANOSECONDS", 10**12)
    hashed(large)
    assert bytes_to_read([large]) == large.stat().st_size


def test_a_line_with_a_checksum_is_read_back_and_a_changed_one_is_not() -> None:
    line = with_checksum({"b": 1, "a": "图"})
    assert verified(line) == {"b": 1, "a": "图"}
    for changed in (line.replace("图", "圖"), line[:-1], "[]", "{}", "1", '{"crc32":' * 5000):
        assert verified(changed) is None


@pytest.mark.parametrize(
    "body", [{"a": 1}, {"zz": "语 \u2028"}, {}, {"a": {"crc32": 7}}, {"a": '"crc32":12,'}, {"d": [1.5, None]}]
)
def test_a_line_is_read_as_written_with_other_spaces_too_and_a_changed_one_is_refused(body: dict[str, object]) -> None:
    line = checksums.with_checksum(body)
    assert checksums.verified(line) == checksums.verified(line.encode()) == body
    assert checksums.verified(json.dumps(json.loads(line), indent=1)) == body, "serialized again, it is the same"
    for place in range(len(line)):
        changed = line[:place] + ("0" if line[place] != "0" else "1") + line[place + 1 :]
        assert checksums.verified(changed) is None

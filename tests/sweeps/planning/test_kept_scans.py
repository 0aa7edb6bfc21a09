"""Tests that equal data is scanned once, and that whatever can change a scan leads to a new one."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from PIL import Image
from scanned_rows import row, scan_of

from sweeps.planning import kept_scans
from sweeps.planning.kept_scans import scan_once
from sweeps.planning.sources import Sources, gather
from trainables.data.scan import Scan
from trainables.mini import BASE_DIRECTORY

PROBES = [
    {"kind": "irrelevant", "prompt": "What?", "images": ["picture.png"], "expect": "无关图片"},
    {"kind": "caption", "prompt": "Say.", "images": ["picture.png"]},
    {"kind": "text", "prompt": "Hi?", "expect": "hello"},
]


class Scans:
    """Counts the scans of the tested code, which all find `found`."""

    def __init__(self) -> None:
        self.count = 0
        self.found: Scan = scan_of()

    def __call__(self, *_: object) -> Scan:
        self.count += 1
        return self.found


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scans:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counted = Scans()
    monkeypatch.setattr(kept_scans, "scan", counted)
    return counted


@pytest.fixture
def sources(tmp_path: Path) -> Callable[[], Sources]:
    """Gather files of one row each and a copy of the miniature's base, as they are at the time."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "picture.png")
    shutil.copytree(BASE_DIRECTORY, tmp_path / "base")
    for name, answer in (("train", "five."), ("validation", "six.")):
        turns = [{"role": "user", "content": f"<image>What is {name}?"}, {"role": "assistant", "content": answer}]
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": turns, "images": ["picture.png"]}) + "\n")
    (tmp_path / "ood.jsonl").write_text("".join(json.dumps(probe) + "\n" for probe in PROBES))
    files = [tmp_path / f"{name}.jsonl" for name in ("train", "validation", "ood")]
    return lambda: gather(str(tmp_path / "base"), *files, mini=tmp_path / "mini")


@pytest.fixture
def again(sources: Callable[[], Sources]) -> Callable[..., Scan]:
    """Scan the files as another process does, which remembers nothing but the cache."""

    def scanned(**changes: object) -> Scan:
        scan_once.cache_clear()
        return scan_once(replace(sources(), **changes))

    return scanned


def test_equal_contents_are_scanned_once_and_equal(scans: Scans, again: Callable[..., Scan]) -> None:
    first, second = again(), again()
    assert scans.count == 1
    assert first == second == scans.found


@pytest.mark.parametrize("name", ["train.jsonl", "validation.jsonl", "ood.jsonl"])
def test_another_row_is_scanned(scans: Scans, again: Callable[..., Scan], tmp_path: Path, name: str) -> None:
    again()
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text.replace("What", "Which"))
    again()
    assert scans.count == 2


def test_another_picture_is_scanned(scans: Scans, again: Callable[..., Scan], tmp_path: Path) -> None:
    again()
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "picture.png")
    again()
    assert scans.count == 2


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "preprocessor_config.json", "config.json"])
def test_another_file_of_the_base_is_scanned(
    scans: Scans, again: Callable[..., Scan], tmp_path: Path, name: str
) -> None:
    again()
    path = tmp_path / "base" / name
    path.write_text(path.read_text() + "\n")
    again()
    assert scans.count == 2


def test_another_date_is_scanned(scans: Scans, again: Callable[..., Scan]) -> None:
    again(template_date=date(2026, 1, 1))
    again(template_date=date(2026, 1, 2))
    assert scans.count == 2


@pytest.mark.parametrize("name", ["code_digest", "version"])
def test_other_code_and_another_library_scan_again(
    scans: Scans, again: Callable[..., Scan], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    again()
    monkeypatch.setattr(kept_scans, name, lambda *_: "changed")
    again()
    assert scans.count == 2


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "no gzip": lambda content: b"not gzip",
    "cut off": lambda content: content[:-20],
    "a changed block": lambda content: content[:10] + b"\xff" * 20 + content[30:],
    "a changed checksum": lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],
    "another content": lambda content: gzip.compress(b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_entry_is_scanned_again(
    scans: Scans, again: Callable[..., Scan], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    again()
    [entry] = (tmp_path / "cache").rglob("*.json.gz")
    entry.write_bytes(damage(entry.read_bytes()))
    assert again() == scans.found
    assert scans.count == 2


def test_a_row_that_cannot_be_encoded_is_scanned_each_time(scans: Scans, again: Callable[..., Scan]) -> None:
    scans.found = replace(scan_of(), train=(row("a", problem="/home/me/picture.png is cut off"),))
    again()
    again()
    assert scans.count == 2


def test_a_cache_that_cannot_be_written_costs_time_only(
    scans: Scans, again: Callable[..., Scan], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the directory would be")
    assert again() == again() == scans.found
    assert scans.count == 2


def test_the_scans_used_last_are_kept(
    scans: Scans, again: Callable[..., Scan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_scans, "MOST_SCANS", 3)
    for day in (1, 2, 3, 1, 4):
        again(template_date=date(2026, 1, day))
    assert len(list((tmp_path / "cache").rglob("*.json.gz"))) == 3
    before = scans.count
    again(template_date=date(2026, 1, 1))
    assert scans.count == before
    again(template_date=date(2026, 1, 2))
    assert scans.count == before + 1

"""Tests that each filter drops exactly its rows, and that the filtered file holds the remaining rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainables.data.duplicates import digest_of
from trainables.data.filtered_file import filter_into, write_filtered
from trainables.data.filters import filtered, parse_filters
from trainables.data.rows import read_rows
from trainables.errors import UserError


def asked(prompt: str, response: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, **more}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name, color in (("red", "red"), ("blue", "blue")):
        Image.new("RGB", (16, 16), color).save(tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "red.png", tmp_path / "copy.png")
    return tmp_path


def write(album: Path, *rows: dict[str, Any]) -> Path:
    path = album / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(rows)), encoding="utf-8")
    return path


def dropped(path: Path, filters: str) -> dict[str, tuple[str, ...]]:
    return filtered(read_rows(path), parse_filters(filters)).dropped


SHOWN = "<image>What is it?"


@pytest.mark.parametrize(
    ("name", "rows", "ids"),
    [
        ("duplicates", [asked("a b", "c"), asked("A  b", "C"), asked("a, b", "c"), asked("a b", "d")], ("1",)),
        ("duplicates", [asked(SHOWN, "x", images=[f"{one}.png"]) for one in ("red", "blue", "copy")], ("2",)),
        ("duplicates", [{"text": "a"}, {"text": "a"}, asked("a", "a")], ("1",)),
        ("near-duplicates", [asked("a b?", "c"), asked("(A) b!", "C"), asked("a b", "c|"), asked("ab", "c")], ("1",)),
        ("near-duplicates", [asked("a", "c", system="x"), asked("a", "c", system="y")], ("1",)),
        ("near-duplicates", [asked(SHOWN, "x", images=[f"{one}.png"]) for one in ("red", "blue", "copy")], ("2",)),
        ("near-duplicates", [{"text": "a b"}, {"text": "a, b"}], ()),
        ("contradictions", [asked("a", "c"), asked("A", "C"), asked("b", "c"), asked("b", "d")], ("2", "3")),
        ("contradictions", [asked(SHOWN, one, images=[f"{one}.png"]) for one in ("red", "blue", "copy")], ("0", "2")),
        ("contradictions", [asked("a", "c", system="x"), asked("a", "d", system="y")], ()),
        ("contradictions", [{"text": "a"}, {"text": "b"}], ()),
        ("degenerate", [asked("a", "no " * 9), asked("a", "no no yes"), {"text": "ab" * 9}], ("0", "2")),
        ("short:3", [asked("a", " ab "), asked("a", "abc"), {"text": "ab"}], ("0", "2")),
        ("long:6", [asked("abc", "abcd"), asked("abc", "abc"), {"text": "abcdefg"}], ("0", "2")),
    ],
)  # fmt: skip
def test_what_each_filter_drops(album: Path, name: str, rows: list[dict[str, Any]], ids: tuple[str, ...]) -> None:
    assert dropped(write(album, *rows), name) == {name: ids}


def test_filters_run_in_order_on_the_remaining_rows(album: Path) -> None:
    path = write(album, asked("a", "c"), asked("a", "c"), asked("a", "d"))
    assert dropped(path, "duplicates,contradictions") == {"duplicates": ("1",), "contradictions": ("0", "2")}
    assert dropped(path, "contradictions, duplicates") == {"contradictions": ("0", "1", "2"), "duplicates": ()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("duplicate", "--drop: `duplicate` must be a filter\nhint: did you mean `duplicates`?"),
        ("short", "`short` needs a number of characters, but got `short`"),
        ("long:0", "`long` needs a number of characters, but got `long:0`"),
        ("long:x", "`long` needs a number of characters"),
        ("degenerate:3", "`degenerate` takes no number"),
        ("short:3,short:4", "`short` must be named once"),
    ],
)
def test_filters_that_do_not_exist_are_refused(text: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_filters(text)
    assert expected in str(caught.value)


def test_a_filtered_file_holds_the_same_rows_in_any_directory(
    album: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(
        album, asked(SHOWN, "red", images=["red.png"], system="Say."), {"text": "a 🟡\u2028b"}, asked("a", "c"),
        asked("a", "c"), {"instruction": "p", "output": "q", "history": [["h", "i"]]},
    )  # fmt: skip
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    left = write_filtered(path, parse_filters("duplicates,degenerate"), elsewhere)
    rows = read_rows(path)
    assert read_rows(left.path) == [row for row in rows if row.row_id != "3"]
    name = left.path.parent.name
    assert (
        left.summary
        == f"dropped 1 of 5 training rows: duplicates 1, degenerate 0 ({elsewhere.name}/{name}/filters.json)"
    )
    report = json.loads((left.path.parent / "filters.json").read_text(encoding="utf-8"))
    assert report == {
        "file": str(path), "sha256": digest_of(path, [album / "red.png"]), "rows": 5, "kept": 4,
        "dropped": {"duplicates": {"count": 1, "ids": ["3"]}, "degenerate": {"count": 0, "ids": []}},
    }  # fmt: skip


def test_a_filtered_file_is_named_by_what_it_holds(album: Path) -> None:
    path = write(album, asked("a", "c"), asked("a", "c"), asked("b", "d"))
    first = write_filtered(path, parse_filters("duplicates"), album / "data")
    stamp = first.path.stat().st_mtime_ns
    assert write_filtered(path, parse_filters("duplicates"), album / "data") == first
    assert first.path.stat().st_mtime_ns == stamp
    assert write_filtered(path, parse_filters("duplicates,long:9"), album / "data").path != first.path
    path = write(album, asked("a", "c"), asked("b", "d"))
    assert write_filtered(path, parse_filters("duplicates"), album / "data").path != first.path


def test_broken_rows_are_dropped_only_by_their_own_filter(album: Path) -> None:
    path = write(album, asked("a", "c"), asked("b", " "), asked("<image>", "d", images=["no.png"]), asked("a", "c"))
    with pytest.raises(UserError, match=r"rows\.jsonl:2: an answer must not be empty.*\n2 of 4 rows are broken"):
        write_filtered(path, parse_filters("duplicates"), album / "data")
    summary = filter_into(path, parse_filters("duplicates,broken"), album / "left.jsonl")
    assert summary == "dropped 3 of 4 training rows: duplicates 1, broken 2"
    report = json.loads((album / "left.filters.json").read_text(encoding="utf-8"))["dropped"]["broken"]
    assert (report["count"], list(report["lines"])) == (2, ["2", "3"])
    assert "the image `no.png` must exist" in report["lines"]["3"]


def test_an_empty_result_and_an_existing_file_are_refused(album: Path) -> None:
    path = write(album, asked("a", "c"))
    with pytest.raises(UserError, match="filters must leave rows, but nothing is left: short:9 dropped 1"):
        filter_into(path, parse_filters("short:9"), album / "left.jsonl")
    with pytest.raises(UserError, match=r"--out must be a new file, but .*rows.jsonl exists"):
        filter_into(path, parse_filters("duplicates"), path)
    assert not (album / "left.jsonl").exists()

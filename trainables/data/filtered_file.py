"""Writes filtered training files: the remaining rows, and a report of the dropped ones.

Layout; the name of the directory is a hash of the contents::

    <12 hex digits>/rows.jsonl      remaining rows, with absolute image paths
    <12 hex digits>/filters.json    how many rows each filter dropped, and which
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trainables.data.duplicates import digest_of
from trainables.data.filters import BROKEN, Filter, filtered
from trainables.data.joined_files import joined
from trainables.data.picture_places import check_places
from trainables.data.rows import Row, parse_rows, rows_with_unique_ids
from trainables.errors import UserError
from trainables.io.files import write_json, write_text
from trainables.typed import typed

ROWS, REPORT = "rows.jsonl", "filters.json"


@dataclass(frozen=True)
class FilteredFile:
    """A filtered file; `summary` describes in one line what was dropped."""

    path: Path
    summary: str


def write_filtered(path: Path, filters: list[Filter], directory: Path) -> FilteredFile:
    """Filter the rows of `path` into a file below `directory`; the same rows and filters give the same file.

    Raises:
        UserError: a row is broken and `broken` is not among the filters, a picture lies elsewhere, or no row is left.
    """
    report, kept_rows = _filtered(path, filters)
    text = as_jsonl(kept_rows)
    name = sha256((text + json.dumps(report["dropped"])).encode()).hexdigest()[:12]
    kept = directory / name / ROWS
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        write_json(kept.parent / REPORT, report)
        write_text(kept, text)
    return FilteredFile(kept, f"{summary(report)} ({directory.name}/{name}/{REPORT})")


def filter_into(path: Path, filters: list[Filter], out: Path) -> str:
    """Filter the rows of `path` into `out` and write `OUT.filters.json`; returns a one-line summary.

    Raises:
        UserError: as `write_filtered`, or `out` exists already.
    """
    if out.exists():
        raise UserError(f"--out must be a new file, but {out} exists", "choose another name; data is never overwritten")
    report, kept_rows = _filtered(path, filters)
    write_json(out.with_suffix(f".{REPORT}"), report)
    write_text(out, as_jsonl(kept_rows))
    return summary(report)


def summary(report: Mapping[str, Any]) -> str:
    """Return one line: how many rows were dropped, and by which filter."""
    counts = ", ".join(f"{name} {one['count']:,}" for name, one in report["dropped"].items())
    return f"dropped {report['rows'] - report['kept']:,} of {report['rows']:,} training rows: {counts}"


def _filtered(path: Path, filters: Sequence[Filter]) -> tuple[dict[str, Any], tuple[Row, ...]]:
    parsed = list(parse_rows(path))
    broken = [(one.place, one.row) for one in parsed if isinstance(one.row, UserError)]
    if broken and BROKEN not in {one.name for one in filters}:
        raise UserError(
            f"{broken[0][1].message}\n{len(broken):,} of {len(parsed):,} rows are broken",
            f"`{typed('data', 'check', str(path))}` lists them; repair them, or drop them by the filter `broken`",
        )
    rows = rows_with_unique_ids({one.place: one.row for one in parsed if not isinstance(one.row, UserError)}, path)
    check_places(path, rows)
    result = filtered(rows, filters)
    dropped = {name: {"count": len(ids), "ids": list(ids)} for name, ids in result.dropped.items()}
    if broken:
        dropped[BROKEN] = {
            "count": len(broken),
            "lines": {_line(place, path): error.message for place, error in broken},
        }
    if not result.kept:
        counts = ", ".join(f"{name} dropped {one['count']:,}" for name, one in dropped.items())
        raise UserError(f"{path}: filters must leave rows, but nothing is left: {counts}",
                        f"`{typed('data', 'check', str(path))}` shows what each filter would drop")  # fmt: skip
    report = {
        "file": str(path),
        "sha256": digest_of(path, (image for row in rows for image in row.images)),
        "rows": len(parsed),
        "kept": len(result.kept),
        "dropped": dropped,
    }
    return report, result.kept


def _line(place: str, path: Path) -> str:
    # the line is enough where one file was read
    return place if len(joined(path)) > 1 else place.rpartition(":")[2]


def as_jsonl(rows: Iterable[Row]) -> str:
    """Write rows in the format `messages` or `text`, with absolute image paths."""
    return "".join(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows)


def _plain(row: Row) -> dict[str, Any]:
    if row.is_completion:
        return {"id": row.row_id, "text": row.answer}
    turns = [
        {
            "role": message.role,
            "content": message.text,
            **({} if message.supervised or message.role != "assistant" else {"weight": 0}),
        }
        for message in row.messages
    ]
    return {"id": row.row_id, "messages": turns, **({"images": [str(one) for one in row.images]} if row.images else {})}

"""Splits a holdout off validation and out-of-distribution rows, by a hash of their content.

A quarter of each kind of row is held out at most, one row at least, and rows with the same question are not parted: a
holdout must have no question that evals ask. Evals do not ask these rows, so the split changes what the trials are: it
is made only where it is asked for, and the plan says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from sweeps.planning.holdout import MINIATURE, ood_fingerprint
from trainables.data.duplicates import fingerprint
from trainables.data.filtered_file import as_jsonl
from trainables.data.joined_files import absolute, joined
from trainables.data.ood import OodRow, parse_ood
from trainables.data.picture_places import check_places
from trainables.data.rows import read_validation
from trainables.errors import UserError
from trainables.io.files import write_text
from trainables.io.jsonl import objects

LEAST_IRRELEVANT = 200
HELD_OUT_OF = 4  # one row of four
RowT = TypeVar("RowT")


@dataclass(frozen=True)
class SplitFiles:
    """The rows that evals ask, with their holdout beside them, and a sentence that says what was split off."""

    validation: Path
    ood: Path
    summary: str


def split_off(validation: Path | None, ood: Path | None, directory: Path) -> SplitFiles:
    """Write the four files below `directory`; the same rows give the same files.

    Raises:
        UserError: rows are not given or broken, or there are too few of them.
    """
    if validation is None or ood is None:
        raise UserError("--split-holdout splits your own rows, but --train, --val and --ood are not given",
                        "the miniature has a holdout of its own")  # fmt: skip
    rows, asked = read_validation(absolute(validation)), _ood_rows(absolute(ood))
    check_places(validation, rows)
    check_places(ood, [row for row, _ in asked])
    irrelevant = sum(row.kind == "irrelevant" for row, _ in asked)
    if irrelevant < LEAST_IRRELEVANT:
        raise UserError(
            f"{ood}: a holdout can be split off {LEAST_IRRELEVANT} irrelevant rows or more, but there are {irrelevant}",
            "name files of other rows with --test and --ood-test",
        )
    held = held_out(rows, fingerprint, lambda row: "")
    ood_held = held_out(asked, lambda one: repr(ood_fingerprint(one[0])), lambda one: one[0].kind)
    texts = {
        "val.jsonl": as_jsonl(row for row, is_held in zip(rows, held, strict=True) if not is_held),
        "ood.jsonl": _lines(values for (_, values), is_held in zip(asked, ood_held, strict=True) if not is_held),
        MINIATURE[0]: as_jsonl(row for row, is_held in zip(rows, held, strict=True) if is_held),
        MINIATURE[1]: _lines(values for (_, values), is_held in zip(asked, ood_held, strict=True) if is_held),
    }
    below = directory / sha256("".join(texts.values()).encode()).hexdigest()[:12]
    for name, text in texts.items():
        if not (below / name).exists():
            write_text(below / name, text)
    summary = (
        f"Held out: {sum(held)} of {len(rows)} validation rows and {sum(ood_held)} of {len(asked)} out-of-distribution "
        "rows, chosen by a hash of their content; no eval asks them."
    )
    return SplitFiles(below / "val.jsonl", below / "ood.jsonl", summary)


def held_out(rows: Iterable[RowT], content: Callable[[RowT], str], kind: Callable[[RowT], str]) -> list[bool]:
    """Return which rows are held out: of each kind the contents with the lowest hashes that fit in a quarter.

    Rows of equal content are on the same side. Where no content fits, the one with the fewest rows is held out.

    Raises:
        UserError: all rows of a kind have the same content.
    """
    groups: dict[str, dict[str, list[int]]] = {}
    for number, row in enumerate(listed := list(rows)):
        digest = sha256(content(row).encode()).hexdigest()
        groups.setdefault(kind(row), {}).setdefault(digest, []).append(number)
    for name, found in groups.items():
        if len(found) == 1:
            raise UserError(
                f"every kind of row must have two different rows to be split, but {name or 'validation'} has one",
                "add rows",
            )
    held = {number for found in groups.values() for number in _quarter(found)}
    return [number in held for number in range(len(listed))]


def _quarter(groups: Mapping[str, Sequence[int]]) -> list[int]:
    ordered = [groups[digest] for digest in sorted(groups)]
    most, held = sum(map(len, ordered)) // HELD_OUT_OF, list[int]()
    for group in ordered:
        if len(held) + len(group) <= most:
            held.extend(group)
    return held or list(min(ordered, key=len))


def _ood_rows(path: Path) -> list[tuple[OodRow, dict[str, Any]]]:
    """Return the rows with the values of their lines, in which pictures have absolute paths."""
    written = [values for file in joined(path) for _, values in objects(file)]
    found = []
    for (_, row), values in zip(parse_ood(path), written, strict=True):
        if isinstance(row, UserError) or isinstance(values, UserError):
            raise row if isinstance(row, UserError) else UserError(f"{path}: a row is broken")
        found.append((row, {**values, "id": row.row_id, "images": [str(one) for one in row.images]}))
    return found


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

"""Reads the JSON objects of a data file with their line numbers: JSONL, one array, or one object on several lines.

Duplicate keys in an object, NaN and infinity are errors; Python's `json` would accept them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Never

from trainables.errors import UserError, named

FOREIGN = (".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".arrow", ".gz", ".zip", ".zst", ".yaml", ".yml")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write it at the start of UTF-8 files
ONE_A_LINE = "write one object per line (JSONL) or one array of objects, in UTF-8"


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Yield line number and object of every row, or the error that describes a broken row.

    Reading continues after a broken line of JSONL, but not after a broken element of an array. Objects may be printed
    over several lines each.

    Raises:
        UserError: the file does not exist or has another format.
    """
    _refuse_foreign(path)
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
        file.seek(0)
        if start.startswith(b"["):
            yield from _elements(file.read(), path)
            return
        if start.startswith(b"{") and isinstance(_object(_first_line(file), ""), UserError):
            file.seek(0)
            yield from _printed_objects(file.read(), path)
            return
        file.seek(0)
        yield from _lines(file, path)


def parse(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        ValueError: it is not JSON, or an object has a duplicate key.
    """
    return _DECODER.decode(text)


def _object(line: bytes, where: str) -> dict[str, Any] | UserError:
    try:
        return _checked(parse(line.decode("utf-8")), where)
    except (ValueError, RecursionError) as error:
        return _broken(error, where)


def _first_line(file: BinaryIO) -> bytes:
    return next((line for line in file if line.removeprefix(BYTE_ORDER_MARK).strip()), b"").removeprefix(
        BYTE_ORDER_MARK
    )


def _printed_objects(raw: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    """Yield objects printed over several lines each; if only the first line is no object, the others are objects."""
    found, position, line = [], 0, 1
    try:
        text = raw.decode("utf-8-sig")
        while (position := _after_space(text, position)) < len(text):
            line = text.count("\n", 0, position) + 1
            value, position = _DECODER.raw_decode(text, position)
            found.append((line, _checked(value, f"{path}:{line}")))
    except (ValueError, RecursionError) as error:
        alone = list(_lines(io.BytesIO(raw), path))
        printed = len(alone) > 1 and isinstance(alone[1][1], UserError)
        found = [*found, (line, _broken(error, f"{path}:{line}"))] if printed else alone
    yield from found


def _lines(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
        if line.strip():
            yield number, _object(line, f"{path}:{number}")


def _elements(raw: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any] | UserError]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield line, _broken(error, f"{path}:{line}")
        return
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        position = _after_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            break
        try:
            value, position = _DECODER.raw_decode(text, position)
            after = _after_space(text, position)
            if text[after : after + 1] not in (",", "]"):
                raise ValueError(f"a comma or `]` must follow it, not `{named(text[after : after + 10])}`")
        except (ValueError, RecursionError) as error:
            yield line, _broken(error, f"{path}:{line}")
            return
        yield line, _checked(value, f"{path}:{line}")
        position = after + (text[after] == ",")
    if text[position + 1 :].strip():
        line += text.count("\n", position, _after_space(text, position + 1))
        yield line, UserError(f"{path}:{line}: nothing may follow the array of rows, but something does", ONE_A_LINE)


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n"):
        position += 1
    return position


def _checked(value: Any, where: str) -> dict[str, Any] | UserError:
    if isinstance(value, dict):
        return value
    return UserError(f"{where}: a row must be a JSON object, but got {type(value).__name__}")


def _broken(error: Exception, where: str) -> UserError:
    return UserError(f"{where}: a row must be one JSON object in UTF-8, but {error}", ONE_A_LINE)


def _refuse_foreign(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"a data file must be a file, but {path} is a directory", "name the JSONL file in it")
    if not path.is_file():
        raise UserError(f"a data file must exist, but {path} does not", "check the path; it may be relative")
    if path.suffix.lower() in FOREIGN:
        raise UserError(f"{path}: a data file must hold JSON, but its name ends with `{path.suffix}`", ONE_A_LINE)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key `{named(key)}` occurs twice in one object; one of the two would be lost")
        values[key] = value
    return values


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"`{name}` is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)

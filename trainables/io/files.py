"""Reads and writes text and JSON files; writes are atomic: after a crash a file is either complete or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from trainables.errors import ExitCode, UserError
from trainables.io.checksums import verified

Model = TypeVar("Model", bound=BaseModel)
Parsed = TypeVar("Parsed")
MOST_FOREIGN_BYTES = 2**24  # of a configuration that somebody else wrote; those of large models have some 100 kB


class FileDamaged(UserError):
    """A file written by this project is damaged; its contents are never guessed."""

    exit_code = ExitCode.RECORD_DAMAGED


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: temporary name, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Write `values` atomically as indented JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, most_bytes: int | None = None) -> Any:
    """Read a JSON file; a foreign one is read only up to a size, `MOST_FOREIGN_BYTES`.

    Raises:
        FileDamaged: the file is not JSON, is larger than `most_bytes`, or is gone.
    """
    try:
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise FileDamaged(f"{path}: a configuration must have at most {most_bytes:,} bytes, but it has more")
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileDamaged(f"{path}: the file must exist, but it does not", "restore the directory it was in") from None
    return json_in(content, path)


def json_in(content: bytes, path: Path) -> Any:
    """Return the values of a JSON file whose content was read.

    Raises:
        FileDamaged: it is not JSON.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileDamaged(f"{path}: a file must hold the JSON that was written, but {error}") from None


def read_model(path: Path, kind: type[Model], hint: str) -> Model:
    """Read a JSON file as an object of a pydantic model; `hint` says what to do where it is damaged.

    Raises:
        FileDamaged: the file is no JSON, or no such object.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        problem, name = error.errors()[0], kind.__name__.lower()
        key = ".".join(map(str, problem["loc"])) or name
        message = f"{path}: a {name} must be as it was written, but `{key}`: {problem['msg']}"
        raise FileDamaged(message, hint) from None
    except FileDamaged as error:
        raise FileDamaged(error.message, hint) from None


def resolved(path: Path, what: str) -> Path:
    """Return the absolute path without symbolic links; the file need not exist.

    Raises:
        UserError: no file can have this path: it has a NUL, too long a name, or a link that leads to itself.
    """
    try:
        path.exists()
        return path.resolve()
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
    except UnicodeError:
        reason = "it is not UTF-8"
    except ValueError:
        reason = "it contains the character NUL"
    except RuntimeError:
        reason = "it is a symbolic link that leads to itself"
    raise UserError(f"{what} must be a path that a file can have, but {reason}", "correct it, or remove the link")


def read_checksummed(
    path: Path, hint: str, read: Callable[[bytes], Parsed | None] = verified
) -> Iterator[Parsed]:  # fmt: skip
    """Yield the objects of a file of lines that `with_checksum` made; an incomplete last line is ignored.

    `read` returns the object of a line, None if it does not match its checksum.

    Raises:
        FileDamaged: a complete line does not match its checksum; `hint` says what to do.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        body = read(line)
        if body is None:
            message = f"{path}:{number}: every line must match its checksum, but this one does not"
            raise FileDamaged(message, f"the file was changed after it was written; {hint}")
        yield body


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def replace_directory(temporary: Path, target: Path) -> None:
    """Replace `target` by a complete directory; `target` is absent only between two renames."""
    for path in (*temporary.rglob("*"), temporary):
        _sync(path)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)

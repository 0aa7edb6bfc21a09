"""Keeps the pictures of a data file in its own directory, by the rule of `trainables/io/places.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from trainables.data.joined_files import locate_all
from trainables.errors import UserError, named
from trainables.io.places import elsewhere, is_elsewhere, permitted


class WithPictures(Protocol):
    """A row of any kind of file."""

    @property
    def row_id(self) -> str:
        """Return the id of the row."""
        ...

    @property
    def images(self) -> tuple[Path, ...]:
        """Return its pictures, without links."""
        ...


def check_places(path: Path, rows: Iterable[WithPictures]) -> None:
    """Check that the pictures of all rows lie in the directory of their file, or in one that is named for it.

    Raises:
        UserError: names the file, the row and the picture.
    """
    for error in _errors(path, ((f"{path}: row `{named(row.row_id)}`", row) for row in rows)):
        raise error


def problems_of_places(path: Path, rows: Mapping[str, WithPictures]) -> list[str]:
    """Return what `check_places` would refuse, for all rows, which are given by their places."""
    return [str(error) for error in _errors(path, rows.items())]


def _errors(path: Path, rows: Iterable[tuple[str, WithPictures]]) -> Iterator[UserError]:
    directories = permitted(one.pictures for one in locate_all(path))
    for where, row in rows:
        picture = next((one for one in row.images if is_elsewhere(one, directories)), None)
        if picture is not None:
            yield elsewhere(where, "a picture", picture, directories)

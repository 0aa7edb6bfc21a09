"""The rule for what a foreign file names: it lies in the file's own directory, or in one that the user names.

Otherwise a data set of somebody else could read other files of this machine. Links count as the file that they lead to.
`FOOTPRINT_DATA` names further directories, separated as in `PATH`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainables.errors import UserError, quoted

VARIABLE = "FOOTPRINT_DATA"


def permitted(own: Iterable[Path]) -> tuple[Path, ...]:
    """Return the directories in which files may lie: `own` and those of `FOOTPRINT_DATA`, without links.

    Raises:
        UserError: `FOOTPRINT_DATA` names a directory that is not absolute.
    """
    given = [Path(one) for one in os.environ.get(VARIABLE, "").split(os.pathsep) if one]
    for one in given:
        if not one.is_absolute():
            raise UserError(f"{VARIABLE} must name absolute directories, but got {quoted(str(one))}",
                            f"export {VARIABLE}={one.resolve()}")  # fmt: skip
    return tuple(dict.fromkeys(one.resolve() for one in (*own, *given)))


def is_elsewhere(file: Path, directories: Sequence[Path]) -> bool:
    """Return True if a file, given without links, lies in none of the directories."""
    return not any(map(file.is_relative_to, directories))


def elsewhere(where: str, what: str, file: Path, directories: Sequence[Path]) -> UserError:
    """Return the error for a file that lies elsewhere."""
    return UserError(
        f"{where}: {what} must lie in {' or '.join(map(str, directories))}, but {file} does not",
        f"if you trust the data: export {VARIABLE}={os.pathsep.join([*_given(), str(file.parent)])}",
    )


def _given() -> list[str]:
    return [one for one in os.environ.get(VARIABLE, "").split(os.pathsep) if one]

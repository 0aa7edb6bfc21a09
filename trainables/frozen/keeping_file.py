"""The file of a record that says whether its passes start from kept activations, so that a resumed trial does alike."""

from __future__ import annotations

from pathlib import Path

from trainables.frozen.worth import Keeping, keeping_in
from trainables.io.files import FileDamaged, read_json, write_json

KEEPING_FILE = "frozen.json"


def write_keeping(directory: Path, keeping: Keeping) -> None:
    """Write the decision to the record in `directory`."""
    write_json(directory / KEEPING_FILE, keeping.as_json())


def read_keeping(directory: Path) -> Keeping | None:
    """Return the decision in the record in `directory`, None if there is none.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    path = directory / KEEPING_FILE
    if not path.is_file():
        return None
    try:
        return keeping_in(read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FileDamaged(f"{path}: the file must be as it was written, but it has another shape",
                          "delete it: the trial then goes on from kept activations") from None  # fmt: skip

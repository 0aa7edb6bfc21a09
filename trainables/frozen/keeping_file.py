"""The file of a record that says whether its passes start from kept activations, so that a resumed trial does alike."""

from __future__ import annotations

from pathlib import Path

from trainables.frozen.worth import ALWAYS, Keeping, keeping_in
from trainables.io.files import FileDamaged, read_json, write_json

KEEPING_FILE = "frozen.json"
DAMAGED_HINT = (
    "run the trial again: delete its directory and launch again, without --resume; or delete this file, "
    "verdict.json and manifest.json and launch with --resume: it then goes on from kept activations, "
    "as in earlier versions, and its curve may differ by rounding from what it would have been"
)


def write_keeping(directory: Path, keeping: Keeping) -> None:
    """Write the decision to the record in `directory`."""
    write_json(directory / KEEPING_FILE, keeping.as_json())


def write_if_new(directory: Path, step: int, keeping: Keeping) -> None:
    """Write the decision for a trial at `step` before its first step, unless its record has one."""
    if step == 0 and not (directory / KEEPING_FILE).is_file():
        write_keeping(directory, keeping)


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
    except FileDamaged as error:
        raise FileDamaged(error.message, DAMAGED_HINT) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        message = f"{path}: the file must be as it was written, but it has another shape"
        raise FileDamaged(message, DAMAGED_HINT) from None


def begun(directory: Path, step: int) -> Keeping | None:
    """Return how a trial at `step` began, None if it is new; one of an earlier version, without a file, kept all.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    return read_keeping(directory) or (ALWAYS if step else None)


def begun_alike(directory: Path, step: int) -> tuple[object, ...]:
    """Return what trials at `step` must have in common to go on in one cohort, each as it began.

    One with a damaged file shares it with none that can be opened.
    """
    try:
        found = begun(directory, step)
    except FileDamaged:
        return ("damaged",)
    return () if found is None else (found.training, found.evals)

"""Finds and checks the holdout: test rows and out-of-distribution rows that no eval of a trial asks.

The holdout measures the picks at the end. It decides no result of a trial, so it is no part of a trial's identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from sweeps.planning.sources import Sources
from trainables.data.duplicates import check_disjoint, digest_of, folded
from trainables.data.joined_files import absolute
from trainables.data.ood import OodRow, needed_kinds, read_ood
from trainables.data.picture_places import check_places
from trainables.data.rows import Message, check_file, read_rows, read_validation
from trainables.errors import UserError, named
from trainables.probes.crops import check_pictures
from trainables.spec import Source, TrialSpec

MINIATURE = "test.jsonl", "ood-test.jsonl"
TOLD = "Holdout: {} and {} measure the picks at the end, and no eval of a trial."
NONE = "No holdout: rows that measure the picks at the end, and no eval of a trial, are named by --test and --ood-test."


@dataclass(frozen=True)
class Holdout:
    """The holdout of an experiment: rows of the task, and rows outside it."""

    test: Source
    ood_test: Source

    def as_json(self) -> dict[str, Any]:
        """Return paths and digests as plain values."""
        return {name: one.model_dump(mode="json") for name, one in (("test", self.test), ("ood_test", self.ood_test))}

    def rows_of(self, spec: TrialSpec) -> TrialSpec:
        """Return a spec with the base of a trial, whose evals ask the rows of the holdout."""
        return spec.model_copy(update={"validation": self.test, "ood": self.ood_test, "earlier": ()})


def holdout_in(kept: Mapping[str, Any]) -> Holdout:
    """Read the values that `as_json` returns.

    Raises:
        KeyError: a file is missing.
        ValueError: a file has no path or digest.
    """
    return Holdout(Source.model_validate(kept["test"]), Source.model_validate(kept["ood_test"]))


@cache  # a launch asks for it when it checks, shows and runs its plan; sources are equal when their content is
def gather_holdout(
    test: Path | None, ood_test: Path | None, sources: Sources, own_rows: bool, was_split: bool = False
) -> Holdout | None:
    """Find the holdout, check every row and hash the files; None if there is none.

    Args:
        own_rows: whether rows of one's own were given; the miniature's rows have a holdout beside them.
        was_split: whether the files were split off rows whose pictures were checked where they lie.

    Raises:
        UserError: one file is given alone, a row is broken, or a row is also in train, validation or the evals' rows.
    """
    given = (test, ood_test) != (None, None)
    if not given and not own_rows:
        beside = [sources.ood.path.parent / name for name in MINIATURE]
        test, ood_test = beside if all(path.is_file() for path in beside) else (None, None)
    if test is None and ood_test is None:
        return None
    if test is None or ood_test is None:
        raise UserError("--test and --ood-test must be given together, but only one of them is")
    test, ood_test = absolute(test), absolute(ood_test)
    for path in (test, ood_test):
        check_file(path)
    test_rows, ood_rows = read_validation(test), read_ood(ood_test, needed_kinds(sources.sees))
    if given and not was_split:
        check_places(test, test_rows)
        check_places(ood_test, ood_rows)
    check_pictures(test_rows, sources.sees)
    check_disjoint(read_rows(sources.train.path), test_rows, test, ("test", "train"))
    check_disjoint(read_validation(sources.validation.path), test_rows, test, ("test", "validation"))
    _check_other_questions(read_ood(sources.ood.path, needed_kinds(sources.sees)), ood_rows, ood_test)
    return Holdout(
        Source(path=test, sha256=digest_of(test, (image for row in test_rows for image in row.images))),
        Source(path=ood_test, sha256=digest_of(ood_test, (image for row in ood_rows for image in row.images))),
    )


@cache
def check_not_replayed(holdout: Holdout, replays: tuple[Source, ...]) -> None:
    """Refuse rows of the holdout that are also replayed.

    Raises:
        UserError: names the number of rows in both files and the first of them.
    """
    held = read_ood(holdout.ood_test.path, ()) if replays else []
    for replay in replays:
        rows, test = read_rows(replay.path), holdout.test.path
        check_disjoint(rows, read_validation(test), test, ("test", "replay"))
        asked = {_question_of(row.prompt, row.images) for row in rows}
        shared = [row.row_id for row in held if _question_of(row.messages, row.images) in asked]
        if shared:
            raise UserError(
                f"{replay.path}: a question of the holdout must not be replayed, but {len(shared)} are, the first is "
                f"`{named(shared[0])}` of {holdout.ood_test.path.name}",
                "remove them from one of the files: an eval on rows that were learned is too optimistic",
            )


def holdout_text(holdout: Holdout | None) -> str:
    """Return the sentence of the plan."""
    return TOLD.format(holdout.test.path.name, holdout.ood_test.path.name) if holdout else NONE


def _check_other_questions(asked: Iterable[OodRow], held: Iterable[OodRow], path: Path) -> None:
    known = {ood_fingerprint(row) for row in asked}
    shared = [row.row_id for row in held if ood_fingerprint(row) in known]
    if shared:
        raise UserError(
            f"{path}: a row of the holdout must not be in --ood too, but {len(shared)} are, the first is "
            f"`{named(shared[0])}`",
            "remove them from one of the files: rows that chose a candidate measure it too high",
        )


def ood_fingerprint(row: OodRow) -> tuple[object, ...]:
    """Return what tells two questions apart: their folded texts, and the digests of their pictures."""
    return _question_of(row.messages, row.images)


def _question_of(messages: Iterable[Message], images: Iterable[Path]) -> tuple[object, ...]:
    texts = tuple((one.role, folded(one.text)) for one in messages)
    return texts, tuple(sha256(image.read_bytes()).hexdigest() for image in images)

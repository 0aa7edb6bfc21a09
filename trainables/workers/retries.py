"""Decides whether a trial that failed is tried again, from all of its failures."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError
from trainables.record import Record
from trainables.verdict import Verdict

MOST_LOST = 5  # times that a trial may lose its process, engine or machine
REASON_CHARACTERS = 400


@dataclass(frozen=True)
class TrialFailure:
    """Why the training of a trial ended before its next eval.

    `company` is how many trials trained together, this one included: any of them can be the cause. `lost` is true when
    the process or the machine ended, or a step never did, which need not be the trial's fault.
    """

    reason: str
    company: int = 1
    lost: bool = False


@dataclass(frozen=True)
class GivenUp:
    """Why a trial is not tried again."""

    cause: str
    reason: str


def given_up(failures: Sequence[TrialFailure], retries: int) -> GivenUp | None:
    """Return why a trial with these failures, in order, is not tried again; None if it is.

    A trial that fails among others is tried with fewer, until it fails alone. It is given up after two equal failures
    alone, or after more than `retries` of any kind. Losses count apart, up to `MOST_LOST`.
    """
    lost, own = [one for one in failures if one.lost], [one for one in failures if not one.lost]
    if len(lost) > MOST_LOST:
        return GivenUp("infrastructure", f"lost {len(lost)} times, the last time: {lost[-1].reason}")
    if not own or own[-1].company > 1:
        return None
    newest, before = own[-1], [one for one in own[:-1] if one.company == 1]
    if before and before[-1].reason == newest.reason:
        return GivenUp(cause_of(newest.reason), f"failed twice alike: {newest.reason}")
    if len(before) >= retries:
        return GivenUp(cause_of(newest.reason), f"failed {len(before) + 1} times, the last time: {newest.reason}")
    return None


def company_after(failures: Sequence[TrialFailure]) -> int | None:
    """Return with how many trials, itself included, a trial trains to its next eval at most; None for no limit."""
    own = [one for one in failures if not one.lost]
    return max(1, own[-1].company // 2) if own else None


def reason_of(error: BaseException) -> str:
    """Return the class and the first line of an error, which are equal for failures that are alike."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:REASON_CHARACTERS] if lines else type(error).__name__


def verdict_of(record: Record, ended: GivenUp) -> Verdict:
    """Return the verdict on a trial that is given up; its step is 0 if its evals cannot be read."""
    step = 0
    with suppress(OSError, UserError):
        evals = record.evals()
        step = evals[-1].step if evals else 0
    return Verdict(kind="failed", step=step, cause=ended.cause, reason=ended.reason)


def failure_in(record: Record, error: BaseException, company: int) -> TrialFailure:
    """Return an error as the failure of a trial; of a trial that trained alone, its record keeps the traceback."""
    if company == 1:
        keep_traceback(record, error)
    return TrialFailure(reason_of(error), company)


def keep_traceback(record: Record, error: BaseException) -> None:
    """Write the traceback of an error that a trial's own work raised into its record."""
    number = 1 + len(tracebacks(record))
    with suppress(OSError):  # the storage may be what failed
        (record.home / f"failure-{number}.txt").write_text("".join(traceback.format_exception(error)), "utf-8")


def tracebacks(record: Record) -> list[Path]:
    """Return the files of a record with the tracebacks of errors that its trial's own work raised."""
    return list(record.home.glob("failure-*.txt"))


def cause_of(reason: str) -> str:
    """Return the class of the error in a reason."""
    return reason.partition(":")[0].strip()

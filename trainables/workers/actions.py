"""What admission asks the engine actor to do."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.workers.events import Call


@dataclass(frozen=True)
class Answer:
    """Answer a call with what the trial's record says."""

    call: Call


@dataclass(frozen=True)
class Fail:
    """Answer a call with an error."""

    call: Call
    error: BaseException


@dataclass(frozen=True)
class WaitUntil:
    """Send `Tick` at this time at the latest."""

    seconds: float


@dataclass(frozen=True)
class Describe:
    """Read which of these trials can train together."""

    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Open:
    """Open these trials as one cohort, in this order."""

    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Advance:
    """Take the trials of `leave` out of the cohort, and train the others to their next eval."""

    leave: tuple[str, ...] = ()


@dataclass(frozen=True)
class Close:
    """Take the cohort off the base, and drop the base if it can no longer be trusted."""

    drop_base: bool


Action = Answer | Fail | WaitUntil | Describe | Open | Advance | Close

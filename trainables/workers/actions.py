"""The actions that `admission` returns and the engine actor carries out."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.workers.events import WorkerCall


@dataclass(frozen=True)
class Reply:
    """Answer a call with a report from the trial's record."""

    call: WorkerCall


@dataclass(frozen=True)
class Fail:
    """Answer a call with an error; `company` trials were in the job that raised it."""

    call: WorkerCall
    error: BaseException
    company: int = 1


@dataclass(frozen=True)
class Redirect:
    """Answer a call so that its worker asks another engine."""

    call: WorkerCall


@dataclass(frozen=True)
class WaitUntil:
    """Send a `Tick` event at this time or earlier."""

    seconds: float


@dataclass(frozen=True)
class Describe:
    """Read the records of these trials and report which can train together."""

    calls: tuple[WorkerCall, ...]


@dataclass(frozen=True)
class Open:
    """Open these trials as one cohort, in this order."""

    calls: tuple[WorkerCall, ...]


@dataclass(frozen=True)
class Advance:
    """Remove the trials in `leave` from the cohort, and train the others to their next eval."""

    leave: tuple[str, ...] = ()


@dataclass(frozen=True)
class Close:
    """Remove the cohort from the base; drop the base too if it may be damaged."""

    drop_base: bool


Action = Reply | Fail | Redirect | WaitUntil | Describe | Open | Advance | Close

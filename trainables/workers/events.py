"""The events that `admission` receives: calls of workers, the time, and results of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class WorkerReplaced(Exception):
    """A call failed because a newer worker called for the same trial, or because its worker left."""


@dataclass(frozen=True)
class WorkerCall:
    """A worker has been waiting for one trial since `since_seconds`; `peers` are the trials expected in its cohort.

    `company` is the most trials in its cohort to the next eval, None for no limit.
    """

    number: int
    trial: str
    worker: str
    peers: tuple[str, ...] = ()
    company: int | None = None
    since_seconds: float = 0.0


@dataclass(frozen=True)
class Description:
    """A trial as admission needs it: trials with equal `group` can train together, on `engine`, sorted by `order`."""

    engine: tuple[object, ...]
    group: tuple[object, ...]
    order: tuple[object, ...]


@dataclass(frozen=True)
class Tick:
    """The current time, which admission gets only from this event."""

    now_seconds: float


@dataclass(frozen=True)
class Arrived:
    """A worker calls for the next eval of a trial."""

    call: WorkerCall


@dataclass(frozen=True)
class Left:
    """A worker will not call for this trial again."""

    trial: str
    worker: str


@dataclass(frozen=True)
class Released:
    """Another engine is to train these trials, which wait here."""

    trials: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """These trials have a verdict."""

    trials: frozenset[str]


@dataclass(frozen=True)
class Stopped:
    """The launch requests that all trials checkpoint and stop; this cannot be undone."""


@dataclass(frozen=True)
class Broke:
    """An error fails a single call."""

    number: int
    error: BaseException


@dataclass(frozen=True)
class Described:
    """`Describe` is done; `held` is the key of the engine in memory. Unreadable trials are left out."""

    found: Mapping[str, Description]
    held: tuple[object, ...] | None


@dataclass(frozen=True)
class Opened:
    """`Open` is done; `members` form the cohort, the other trials have a verdict or were stopped."""

    members: tuple[str, ...]


@dataclass(frozen=True)
class Reached:
    """`Advance` is done; `members` continue, the others have a verdict; `invalid` if one of the verdicts is."""

    members: tuple[str, ...]
    invalid: bool = False


@dataclass(frozen=True)
class Closed:
    """`Close` is done."""


@dataclass(frozen=True)
class Failed:
    """The running job raised an error, which fails every trial in it."""

    error: BaseException
    out_of_memory: bool = False


Event = Tick | Arrived | Left | Released | Ended | Stopped | Broke | Described | Opened | Reached | Closed | Failed

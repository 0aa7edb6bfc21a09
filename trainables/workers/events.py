"""What admission is told: workers' calls, the passing of time, and how its jobs end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class WorkerReplaced(Exception):
    """A call is over because a newer worker asked for the same trial, or because the worker left."""


@dataclass(frozen=True)
class Call:
    """A worker waits for one trial since `since_seconds`; `peers` are all trials that it expects to train together."""

    number: int
    trial: str
    worker: str
    peers: tuple[str, ...] = ()
    since_seconds: float = 0.0


@dataclass(frozen=True)
class Description:
    """What decides who trains together: equal `group` can; `engine` is the base they need; they train in `order`."""

    engine: tuple[object, ...]
    group: tuple[object, ...]
    order: tuple[object, ...]


@dataclass(frozen=True)
class Tick:
    """Time has passed; it passes in no other way."""

    now_seconds: float


@dataclass(frozen=True)
class Arrived:
    """A worker asks for the next eval of a trial."""

    call: Call


@dataclass(frozen=True)
class Left:
    """A worker will not ask for this trial again."""

    trial: str
    worker: str


@dataclass(frozen=True)
class Ended:
    """These trials have a verdict."""

    trials: frozenset[str]


@dataclass(frozen=True)
class Stopped:
    """The launch asks all trials to checkpoint and end; this is final."""


@dataclass(frozen=True)
class Broke:
    """An error concerns one call alone."""

    number: int
    error: BaseException


@dataclass(frozen=True)
class Described:
    """`Describe` is done; `held` is the engine in memory. A call whose trial could not be read is left out."""

    found: Mapping[str, Description]
    held: tuple[object, ...] | None


@dataclass(frozen=True)
class Opened:
    """`Open` is done; `members` train, the other trials have a verdict or need none."""

    members: tuple[str, ...]


@dataclass(frozen=True)
class Reached:
    """`Advance` is done; `members` still train, the others have a verdict; `invalid` when one of these is invalid."""

    members: tuple[str, ...]
    invalid: bool = False


@dataclass(frozen=True)
class Closed:
    """`Close` is done."""


@dataclass(frozen=True)
class Failed:
    """The job that runs raised an error, which concerns every trial in it."""

    error: BaseException
    out_of_memory: bool = False


Event = Tick | Arrived | Left | Ended | Stopped | Broke | Described | Opened | Reached | Closed | Failed

"""The roster: an actor that tells workers which engine trains their trials, and whether failed ones are tried again.

Engines join during a launch, and are lost. Trials that wait at a busy engine move to one with nothing to do; trials
that train never move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayError

from trainables.workers.assignment import Assignment, Assignments, Group
from trainables.workers.retries import GivenUp, TrialFailure, company_after, given_up
from trainables.workers.watchdog import take_stacks

POLL_SECONDS = 1.0
GATE_SECONDS = 0.2
RESTART_SECONDS = 10.0  # for an engine that ended to answer again, each time it is asked
RESTART_TRIES = 60


@dataclass(frozen=True)
class News:
    """What happened since the last news: the engines of trials, and the trials that are tried again, by reason.

    `engines` is the number of engines that the roster counts on.
    """

    engines: int
    assigned: Mapping[str, str] = field(default_factory=dict)
    retried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Roster:
    """A named asyncio actor of Ray: one for each launch, on its node.

    It may be started again. It then knows no groups, so that trials wait for no others.
    """

    def __init__(self, engines: Mapping[str, str], stop_file: str) -> None:
        """`engines` maps the names of the engines of the launch to the ids of their nodes."""
        self._assignments, self._nodes = Assignments(list(engines)), dict(engines)
        self._stop_file, self._retries = Path(stop_file), 0
        self._failures: dict[str, list[TrialFailure]] = {}
        self._in_job: dict[str, tuple[str, ...]] = {}
        self._restarts: dict[str, asyncio.Future[bool]] = {}  # by engine, as the next two: is it lost?
        self._counted: dict[str, set[str]] = {}  # trials of a job to which its end is counted already
        self._stacks_of: dict[str, Path | None] = {}
        self._assigned: dict[str, str] = {}
        self._retried: dict[str, list[str]] = {}
        self._balancing = asyncio.Lock()

    # ---------------------------------------------------------------- workers
    async def assign(self, trial: str, gate: str | None = None) -> Assignment | None:
        """Return the engine of a trial, as soon as there is one; None when the launch stops first.

        It has none before the file `gate` is there, if one is given.
        """
        while gate is not None and not Path(gate).exists():
            if self._stop_file.exists():
                return None
            await asyncio.sleep(GATE_SECONDS)
        while (found := self._assignments.assign(trial)) is None:
            if self._stop_file.exists():
                return None
            await asyncio.sleep(POLL_SECONDS)
        self._assigned[trial] = found.engine
        return replace(found, company=company_after(self._failures.get(trial, ())))

    async def left(self, trial: str) -> None:
        """Forget the worker of a trial, and let an engine that has nothing more to do take over waiting ones."""
        self._assignments.left(trial)
        await self._balance()

    async def failed(self, trial: str, failure: TrialFailure) -> GivenUp | None:
        """Note the failure of a trial that its engine reported; return why it is not tried again, None if it is."""
        return self._noted(trial, failure)

    async def engine_ended(self, trial: str, engine: str, reason: str) -> GivenUp | None:
        """Note that the process of a trial's engine ended; it is a failure only of the trials in its job.

        Returns when it is known whether the process was started again, or its machine is lost with it.
        """
        if engine not in self._restarts:
            self._restarts[engine] = asyncio.ensure_future(self._is_lost(engine))
        is_lost = await (restart := self._restarts[engine])
        if self._restarts.get(engine) is restart:
            del self._restarts[engine]
        if is_lost:
            self._assignments.lost(engine)
        in_job = self._in_job.get(engine, ())
        if trial not in in_job or trial in self._counted.get(engine, ()):
            self._retried.setdefault(reason, []).append(trial)
            return None
        self._counted.setdefault(engine, set()).add(trial)
        if stacks := self._stacks(engine, Path(in_job[0])):
            failure = TrialFailure(f"no step within the limit; {stacks} shows where it stood", len(in_job), lost=True)
            return self._noted(trial, failure)
        return self._noted(trial, TrialFailure(reason, len(in_job), lost=is_lost))

    async def _is_lost(self, engine: str) -> bool:
        """Wait until the engine answers again, or is known to be lost."""
        for _ in range(RESTART_TRIES):
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if self._nodes.get(engine) not in alive:
                return True
            try:
                actor: Any = ray.get_actor(engine)
                await asyncio.wait_for(actor.ready.remote(), RESTART_SECONDS)
            except (ActorDiedError, ActorUnschedulableError, ValueError):
                return True
            except (RayError, TimeoutError):
                await asyncio.sleep(POLL_SECONDS)
            else:
                return False
        return True

    def _stacks(self, engine: str, record: Path) -> Path | None:
        if engine not in self._stacks_of:
            self._stacks_of[engine] = take_stacks(record)
        return self._stacks_of[engine]

    def _noted(self, trial: str, failure: TrialFailure) -> GivenUp | None:
        failures = self._failures.setdefault(trial, [])
        failures.append(failure)
        ended = given_up(failures, self._retries)
        if ended is None:
            self._retried.setdefault(failure.reason, []).append(trial)
            if failure.company == 1 and not failure.lost:
                self._assignments.elsewhere(trial)
        return ended

    # ---------------------------------------------------------------- engines
    async def began(self, engine: str, trials: tuple[str, ...]) -> None:
        """Note which trials an engine opens or trains from now on."""
        self._in_job[engine] = trials
        self._counted.pop(engine, None)  # those of a process that ended
        self._stacks_of.pop(engine, None)

    async def joined(self, engine: str, node: str) -> None:
        """Count on a new engine, and give it trials that wait at others."""
        self._nodes[engine] = node
        self._assignments.joined(engine)
        await self._balance()

    async def lost(self, engine: str) -> None:
        """Count no longer on an engine."""
        self._assignments.lost(engine)

    # ---------------------------------------------------------------- the launch
    async def begin(self, groups: Sequence[Group], retries: int) -> None:
        """Begin a batch of trials, each of which is tried again up to `retries` times."""
        self._assignments.begin(groups)
        self._retries = retries

    async def news(self) -> News:
        """Return what happened since the last call."""
        assigned, retried = self._assigned, self._retried
        self._assigned, self._retried = {}, {}
        return News(
            len(self._assignments.engines), assigned, {reason: tuple(trials) for reason, trials in retried.items()}
        )

    async def _balance(self) -> None:
        async with self._balancing:
            refused: list[tuple[str, ...]] = []
            while (move := self._assignments.next_move(refused)) is not None:
                try:
                    source: Any = ray.get_actor(move.source)
                    released = await source.release.remote(move.trials)
                except (RayError, ValueError):  # the engine has ended; its workers say so
                    released = ()
                if not released:
                    refused.append(move.trials)
                self._assignments.moved(
                    move, [trial for trial in released if self._assignments.engine_of(trial) == move.source]
                )

"""Decides which engine trains a trial, and with which others; reads no clock and calls no process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Group:
    """Trials that wait for each other, in order; `share` is the number of the engine that they were planned for."""

    trials: tuple[str, ...]
    share: int = 0


@dataclass(frozen=True)
class Assignment:
    """The engine that trains a trial, and the trials that it trains together with this one.

    `company` is the most trials, this one included, that train together to the next eval; None for no limit.
    """

    engine: str
    peers: tuple[str, ...]
    company: int | None = None


@dataclass(frozen=True)
class Move:
    """Trials that wait at the engine `source` while `target` has nothing to do."""

    source: str
    target: str
    trials: tuple[str, ...]


@dataclass
class Assignments:
    """Where the groups of a launch train.

    A group is assigned when its first trial gets a worker: on an engine with nothing to do, else on the one that it was
    planned for. Engines join and are lost meanwhile; the groups of a lost engine are assigned anew.
    """

    engines: list[str]
    groups: list[Group] = field(default_factory=list)
    _planned: tuple[str, ...] = ()
    _engine_of: dict[int, str] = field(default_factory=dict)
    _present: dict[str, int] = field(default_factory=dict)  # trials with a worker, and their groups
    _number_of: dict[str, int] = field(default_factory=dict)

    def begin(self, groups: Sequence[Group]) -> None:
        """Forget all earlier groups, which have ended; these are planned for the engines that there are now."""
        self.groups, self._planned = list(groups), tuple(self.engines)
        self._engine_of, self._present = {}, {}
        self._number_of = {trial: number for number, group in enumerate(self.groups) for trial in group.trials}

    # ---------------------------------------------------------------- engines
    def joined(self, engine: str) -> None:
        """Count on an engine."""
        if engine not in self.engines:
            self.engines.append(engine)

    def lost(self, engine: str) -> None:
        """Count no longer on an engine; its groups have no engine until one of their trials asks."""
        self.engines = [one for one in self.engines if one != engine]
        self._engine_of = {number: one for number, one in self._engine_of.items() if one != engine}

    # ---------------------------------------------------------------- trials
    def assign(self, trial: str) -> Assignment | None:
        """Return where a trial trains, which waits for no other if it is in no group; None while there is no engine."""
        if trial not in self._number_of:
            self._number_of[trial] = len(self.groups)
            self.groups.append(Group((trial,)))
        number = self._number_of[trial]
        self._present[trial] = number
        if number not in self._engine_of:
            if not self.engines:
                return None
            self._engine_of[number] = self._best(self.groups[number])
        return Assignment(self._engine_of[number], self.groups[number].trials)

    def elsewhere(self, trial: str) -> None:
        """Let a trial that failed alone be tried on another engine, if there is one: its node may be what failed."""
        others = [engine for engine in self.engines if engine != self.engine_of(trial)]
        if others:
            loads = self.loads()
            self._part([trial], min(others, key=lambda engine: loads[engine]))

    def left(self, trial: str) -> None:
        """Forget the worker of a trial, which has ended."""
        self._present.pop(trial, None)

    def next_move(self, tried: Iterable[tuple[str, ...]] = ()) -> Move | None:
        """Return trials to move from an engine with two groups or more to one with nothing to do, or None.

        Groups that came last are moved first. `tried` are the trials of moves that an engine has refused.
        """
        loads, refused = self.loads(), set(tried)
        target = next((engine for engine in self.engines if not loads[engine]), None)
        if target is None:
            return None
        for source in sorted(self.engines, key=lambda engine: -loads[engine]):
            groups = [number for number, engine in self._engine_of.items() if engine == source]
            present = {number: self._present_of(number) for number in groups}
            waiting = [trials for trials in present.values() if trials]
            for trials in reversed(waiting if len(waiting) > 1 else []):
                if trials not in refused:
                    return Move(source, target, trials)
        return None

    def moved(self, move: Move, released: Sequence[str]) -> None:
        """Assign the trials that the engine released as a group of their own."""
        if released:
            self._part(released, move.target)

    def loads(self) -> Mapping[str, int]:
        """Return how many trials with a worker each engine has."""
        counts = dict.fromkeys(self.engines, 0)
        for number in self._present.values():
            if (engine := self._engine_of.get(number)) in counts:
                counts[engine] += 1  # type: ignore[index]
        return counts

    def engine_of(self, trial: str) -> str | None:
        """Return the engine of a trial, None before it has one."""
        return self._engine_of.get(self._number_of[trial])

    def _part(self, trials: Sequence[str], engine: str) -> None:
        """Take trials out of their groups, and make a group of them on an engine."""
        for number in {self._number_of[trial] for trial in trials}:
            rest = tuple(trial for trial in self.groups[number].trials if trial not in trials)
            self.groups[number] = Group(rest, self.groups[number].share)
        self.groups.append(Group(tuple(trials)))
        for trial in trials:
            self._number_of[trial] = self._present[trial] = len(self.groups) - 1
        self._engine_of[len(self.groups) - 1] = engine

    def _present_of(self, number: int) -> tuple[str, ...]:
        return tuple(trial for trial in self.groups[number].trials if self._present.get(trial) == number)

    def _best(self, group: Group) -> str:
        loads = self.loads()
        idle = [engine for engine in self.engines if not loads[engine]]
        planned = self._planned[group.share] if group.share < len(self._planned) else None
        if planned in self.engines and (planned in idle or not idle):
            return planned
        return min(idle or self.engines, key=lambda engine: loads[engine])

"""Decides which trials train together and when, as a pure function `(state, event) -> (state, actions)`.

The engine actor sends events and carries out the actions; this module does not wait, or read a clock or a file. One job
runs at a time: `Describe`, `Open`, `Advance` or `Close`. Each ends with its own event, or with `Failed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from trainables.workers import actions, events
from trainables.workers.events import Description, WorkerCall, WorkerReplaced


# ---------------------------------------------------------------- state
@dataclass(frozen=True)
class Gathering:
    """No cohort: calls wait for their peers."""


@dataclass(frozen=True)
class Describing:
    """The records of the waiting trials are being read."""


@dataclass(frozen=True)
class Opening:
    """The trials of the next cohort are being opened."""

    trials: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """The members train; `suspect` if a trial of this cohort became invalid, which may be the fault of the base.

    `apart`: after a failure they train to the next eval without the others, and join them there.
    """

    members: tuple[str, ...]
    suspect: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Between:
    """The members reached an eval at `since_seconds`; their next calls are expected."""

    members: tuple[str, ...]
    suspect: bool
    since_seconds: float


@dataclass(frozen=True)
class Closing:
    """The cohort is being removed from the base."""


Phase = Gathering | Describing | Opening | Training | Between | Closing


@dataclass(frozen=True)
class State:
    """The waiting calls by trial, and all that is known about trials.

    `newest` is the last worker that called for a trial, `gone` are the trials whose worker left, `ended` those with a
    verdict. A cohort has at most `max_trials`. Calls wait at most `admission_seconds` for those of their peers. After
    an eval, members of a cohort wait at most `absence_seconds` for the calls of the others.
    """

    max_trials: int | None = None
    admission_seconds: float = 60.0
    absence_seconds: float = 60.0
    now_seconds: float = 0.0
    stopped: bool = False
    waiting: Mapping[str, WorkerCall] = field(default_factory=dict)
    newest: Mapping[str, str] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    phase: Phase = Gathering()

    @property
    def in_job(self) -> tuple[str, ...]:
        """Return the trials that are being opened or trained."""
        if isinstance(self.phase, Opening):
            return self.phase.trials
        return self.phase.members if isinstance(self.phase, Training) else ()

    def movable(self, trials: Iterable[str]) -> tuple[str, ...]:
        """Return those of these trials that wait and belong to no cohort."""
        cohort = self.phase.members if isinstance(self.phase, Between) else self.in_job
        return tuple(trial for trial in trials if trial in self.waiting and trial not in cohort)


Step = tuple[State, tuple[actions.Action, ...]]


def absent(state: State) -> frozenset[str]:
    """Return the peers that waiting calls expect and that have neither called nor left nor ended."""
    if not isinstance(state.phase, Gathering):
        return frozenset()
    expected = frozenset(peer for call in state.waiting.values() for peer in call.peers)
    return expected - state.waiting.keys() - state.gone - state.ended


def decide(state: State, event: events.Event) -> Step:
    """Return the state after an event, and the actions for the engine, in order."""
    state, first = _received(state, event)
    state, then = _proceeded(state)
    return state, (*first, *then)


def _received(state: State, event: events.Event) -> Step:
    match event:
        case events.Arrived(call):
            return _arrived(state, call)
        case events.Left(trial, worker):
            return _left(state, trial, worker)
        case events.Released(trials):
            return _released(state, trials)
        case events.Broke(number, error):
            return _failed(state, [trial for trial, call in state.waiting.items() if call.number == number], error)
        case events.Tick() | events.Ended() | events.Stopped():
            return _noticed(state, event)
        case _:
            return _job_ended(state, event)


def _noticed(state: State, event: events.Tick | events.Ended | events.Stopped) -> Step:
    match event:
        case events.Tick(now_seconds):
            return replace(state, now_seconds=max(state.now_seconds, now_seconds)), ()
        case events.Ended(trials):
            return replace(state, ended=state.ended | trials), ()
        case events.Stopped():
            state = replace(state, stopped=True)
            return _answered(state, [trial for trial in state.waiting if trial not in state.in_job])


def _job_ended(state: State, event: events.Event) -> Step:
    match event, state.phase:
        case events.Described(found, held), Describing():
            return _described(state, found, held)
        case events.Opened(members), Opening(trials):
            return _opened(state, trials, members)
        case events.Reached(members, invalid), Training(before, suspect, apart):
            return _reached(state, before, Training(members, suspect or invalid, apart))
        case events.Closed(), Closing():
            return replace(state, phase=Gathering()), ()
        case events.Failed(error, out_of_memory), _:
            return _job_failed(state, error, out_of_memory)
    raise ValueError(f"{type(event).__name__} does not end {type(state.phase).__name__.lower()}")


# ---------------------------------------------------------------- calls
def _arrived(state: State, call: WorkerCall) -> Step:
    call = replace(call, since_seconds=state.now_seconds)
    state, replaced = _failed(
        state, [call.trial], WorkerReplaced(call.trial)
    )  # an older worker was killed while waiting
    state = replace(
        state,
        waiting={**state.waiting, call.trial: call},
        newest={**state.newest, call.trial: call.worker},
        gone=state.gone - {call.trial},
        ended=state.ended - {call.trial},
    )
    if not state.stopped or call.trial in state.in_job:
        return state, replaced
    state, answers = _answered(state, [call.trial])
    return state, (*replaced, *answers)


def _left(state: State, trial: str, worker: str) -> Step:
    if state.newest.get(trial, worker) != worker:
        return state, ()  # a newer worker called for the trial
    state, replaced = _failed(state, [trial], WorkerReplaced(trial))
    return replace(state, newest={**state.newest, trial: worker}, gone=state.gone | {trial}), replaced


def _released(state: State, trials: Iterable[str]) -> Step:
    calls = [state.waiting[trial] for trial in state.movable(trials)]
    state = replace(_without(state, calls), gone=state.gone | {call.trial for call in calls})
    return state, tuple(actions.Redirect(call) for call in calls)


def _answered(state: State, trials: Iterable[str]) -> Step:
    calls = [state.waiting[trial] for trial in trials if trial in state.waiting]
    return _without(state, calls), tuple(actions.Reply(call) for call in calls)


def _failed(state: State, trials: Iterable[str], error: BaseException, company: int = 1) -> Step:
    calls = [state.waiting[trial] for trial in trials if trial in state.waiting]
    return _without(state, calls), tuple(actions.Fail(call, error, company) for call in calls)


def _without(state: State, calls: Iterable[WorkerCall]) -> State:
    answered = {call.trial for call in calls}
    return replace(state, waiting={trial: call for trial, call in state.waiting.items() if trial not in answered})


# ---------------------------------------------------------------- a cohort
def _proceeded(state: State) -> Step:
    match state.phase:
        case Gathering():
            return _gathered(state)
        case Between(members, suspect, since_seconds):
            missing = [trial for trial in members if trial not in state.waiting and trial not in state.gone]
            deadline = since_seconds + state.absence_seconds
            if state.stopped:
                state, answers = _answered(state, members)
                return replace(state, phase=Closing()), (*answers, actions.Close(suspect))
            if missing and state.now_seconds < deadline:
                return state, (actions.WaitUntil(deadline),)
            return _advanced(state, members, suspect)
    return state, ()


def _gathered(state: State) -> Step:
    if not state.waiting:
        return state, ()
    deadline = min(call.since_seconds for call in state.waiting.values()) + state.admission_seconds
    if absent(state) and state.now_seconds < deadline:
        return state, (actions.WaitUntil(deadline),)
    return replace(state, phase=Describing()), (actions.Describe(tuple(state.waiting.values())),)


def _described(state: State, found: Mapping[str, Description], held: tuple[object, ...] | None) -> Step:
    company = {trial: call.company for trial, call in state.waiting.items() if call.company is not None}
    waiting = {trial: one for trial, one in found.items() if trial in state.waiting}
    trials = chosen(waiting, held, state.max_trials, company)
    if not trials:
        return replace(state, phase=Gathering()), ()
    return replace(state, phase=Opening(trials)), (actions.Open(tuple(state.waiting[trial] for trial in trials)),)


def chosen(
    found: Mapping[str, Description],
    held: tuple[object, ...] | None,
    max_trials: int | None,
    company: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """Return the largest group that can use the loaded engine, else the largest group; at most `max_trials` of it.

    `company` limits how many train together with a trial that failed before. Such trials come first, so that they are
    soon where the others are.
    """
    limits = company or {}
    groups: dict[tuple[object, ...], list[str]] = {}
    for trial, one in found.items():
        groups.setdefault(one.group, []).append(trial)
    if not groups:
        return ()
    largest = max(
        groups.values(),
        key=lambda trials: (not limits.keys().isdisjoint(trials), found[trials[0]].engine == held, len(trials)),
    )
    most = min((limit for trial in largest if (limit := limits.get(trial, max_trials)) is not None), default=None)
    first = sorted(largest, key=lambda trial: (trial not in limits, found[trial].order))[:most]
    return tuple(sorted(first, key=lambda trial: found[trial].order))


def _opened(state: State, trials: tuple[str, ...], members: tuple[str, ...]) -> Step:
    ended = [trial for trial in trials if trial in state.waiting and trial not in members]
    state, answers = _answered(replace(state, ended=state.ended | set(ended)), ended)
    if not members:
        return replace(state, phase=Gathering()), answers
    state, then = _advanced(state, members, suspect=False)
    return state, (*answers, *then)


def _advanced(state: State, members: tuple[str, ...], suspect: bool) -> Step:
    present = tuple(trial for trial in members if trial in state.waiting)
    if not present:
        return replace(state, phase=Closing()), (actions.Close(suspect),)
    leave = tuple(trial for trial in members if trial not in present)
    apart = any(state.waiting[trial].company is not None for trial in present)
    return replace(state, phase=Training(present, suspect, apart)), (actions.Advance(leave),)


def _reached(state: State, before: tuple[str, ...], now: Training) -> Step:
    state = replace(state, ended=state.ended | (frozenset(before) - frozenset(now.members)))
    state, answers = _answered(state, before)
    if state.stopped or not now.members or now.apart:
        return replace(state, phase=Closing()), (*answers, actions.Close(now.suspect))
    return replace(state, phase=Between(now.members, now.suspect, state.now_seconds)), answers


def _job_failed(state: State, error: BaseException, out_of_memory: bool) -> Step:
    in_job = () if isinstance(state.phase, Closing) else state.in_job or state.waiting
    members = [trial for trial in in_job if trial in state.waiting]
    if out_of_memory and len(members) > 1:
        state = replace(state, max_trials=len(members) // 2)
        # the calls keep waiting for a smaller cohort, but when the launch is to stop there will be none
        state, replies = _answered(state, members) if state.stopped else (state, ())
    else:
        state, replies = _failed(state, members, error, len(members))
    return replace(state, phase=Closing()), (*replies, actions.Close(drop_base=True))

"""Tests admission with random workers and engines; a planted fault breaks each rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from trainables.workers import actions, events
from trainables.workers.admission import Gathering, State, Training, absent, decide
from trainables.workers.events import Description, WorkerCall, WorkerReplaced

Decide = Callable[[State, events.Event], tuple[State, tuple[actions.Action, ...]]]
Job = actions.Describe | actions.Open | actions.Advance | actions.Close

TRIALS = tuple("abcdef")
ADMISSION_SECONDS, ABSENCE_SECONDS, MAX_TRIALS = 10.0, 5.0, 3
PLANTED = RuntimeError("a planted fault")


def description(trial: str) -> Description:
    """Trials a to d can train together; e needs the same base, f another one."""
    engine = ("other",) if trial == "f" else ("base",)
    return Description(engine, (engine, trial == "e"), (trial,))


# ---------------------------------------------------------------- a world around admission
@dataclass
class World:
    """Sends events, carries out actions, and checks each against what it knows itself."""

    decide: Decide
    state: State = field(default_factory=lambda: State(MAX_TRIALS, ADMISSION_SECONDS, ABSENCE_SECONDS))
    now: float = 0.0
    number: int = 0
    waiting: dict[str, WorkerCall] = field(default_factory=dict)
    workers: dict[str, list[str]] = field(default_factory=dict)
    replies: dict[int, actions.Reply | actions.Fail | actions.Redirect] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    stopped: bool = False
    job: Job | None = None
    cohort: tuple[str, ...] = ()
    reached_at: float | None = None  # when the cohort reached its newest eval
    suspect: bool = False
    failed: bool = False
    described: set[str] = field(default_factory=set)
    apart: bool = False  # a member failed before, so the cohort ends at its eval
    most: int = MAX_TRIALS
    wait_until: float = math.inf
    may_answer: set[str] = field(default_factory=set)
    may_fail: set[int] = field(default_factory=set)  # numbers of calls that an error concerns

    # -------------------------------------------------------------- what happens
    def ask(self, trial: str, peers: str = "", company: int | None = None) -> WorkerCall:
        """A new worker asks for a trial; an earlier one that waits is told that it was replaced."""
        self.number += 1
        call = WorkerCall(self.number, trial, f"worker-{self.number}", tuple(peers), company)
        former = self.waiting.get(trial)
        self.workers.setdefault(trial, []).append(call.worker)
        self.gone.discard(trial)
        self.ended.discard(trial)
        self.waiting[trial] = replace(call, since_seconds=self.now)
        self.send(events.Arrived(call), replaced=former, answerable={trial} if self.stopped else set())
        return call

    def leave(self, trial: str, worker: str) -> None:
        """A worker leaves; only the newest one of a trial takes it along."""
        newest = self.workers.get(trial, [worker])[-1] == worker
        former = self.waiting.pop(trial, None) if newest else None
        if newest:
            self.gone.add(trial)
            self.workers.setdefault(trial, [worker])
        self.send(events.Left(trial, worker), replaced=former)

    def leave_by(self, trial: str, back: int) -> None:
        """The newest worker of a trial leaves, or the one before it."""
        if workers := self.workers.get(trial, [])[-back:]:
            self.leave(trial, workers[0])

    def come_back(self) -> None:
        """The members of the cohort ask again, as they do after an eval."""
        for trial in [one for one in self.cohort if one not in self.waiting]:
            self.ask(trial, "abcd")

    def release(self, trials: str) -> None:
        """Another engine is to train these trials."""
        self.send(events.Released(tuple(trials)))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.send(events.Tick(self.now))

    def stop(self) -> None:
        self.stopped = True
        self.send(events.Stopped(), answerable={*TRIALS} - self._in_job())

    def end(self, trial: str) -> None:
        """A trial gets a verdict elsewhere; admission gets the event if it waits for this trial."""
        if trial not in self.waiting and trial not in self.cohort:
            self.ended.add(trial)
            self.send(events.Ended(frozenset({trial})))

    def break_one(self, trial: str) -> None:
        """The record of one call in the job cannot be read."""
        call = self.waiting.pop(trial)
        self.send(events.Broke(call.number, PLANTED), failing={call.number})

    # -------------------------------------------------------------- how jobs end
    def finish(self, bits: int) -> None:
        """End the job that runs; `bits` choose how, 0 as well as possible."""
        if isinstance(self.job, actions.Describe | actions.Open) and bits & 16:
            for call in self.job.calls:
                if call.trial in self.waiting and call.trial not in self._some((call.trial,), bits):
                    self.break_one(call.trial)
        job, self.job = self.job, None
        match job:
            case actions.Describe(calls):
                found = {call.trial: description(call.trial) for call in calls if call.trial in self.waiting}
                self.send(events.Described(found, ("base",) if bits & 8 else None))
            case actions.Open(calls) if bits & 96 != 96:
                trials = tuple(call.trial for call in calls if call.trial in self.waiting)
                self.cohort = () if self.stopped else self._some(trials, bits)
                self.ended |= {*trials} - {*self.cohort}
                self.reached_at = None
                self.send(events.Opened(self.cohort), answerable={*trials} - {*self.cohort})
            case actions.Advance() if bits & 96 != 96:
                before, self.cohort = self.cohort, self._some(self.cohort, bits)
                invalid = bool(bits & 8) and before != self.cohort
                self.suspect |= invalid
                self.ended |= {*before} - {*self.cohort}
                self.reached_at = self.now
                self.send(events.Reached(self.cohort, invalid), answerable={*before})
            case actions.Close() if bits & 96 != 96:
                self.send(events.Closed())
            case None:
                pass
            case _:
                self._fail(job, bool(bits & 4))

    def _fail(self, job: Job, out_of_memory: bool) -> None:
        trials = {call.trial for call in job.calls} if isinstance(job, actions.Open) else {*self.cohort}
        together = [trial for trial in trials if trial in self.waiting] if not isinstance(job, actions.Close) else []
        failing = {self.waiting[trial].number for trial in together}
        self.suspect = self.failed = True
        answerable: set[str] = set()
        if out_of_memory and len(together) > 1:
            self.most, failing = min(self.most, len(together) // 2), set()
            answerable = {*together} if self.stopped else set()
        self.send(events.Failed(PLANTED, out_of_memory), answerable=answerable, failing=failing)
        assert all(number in self.replies for number in failing), "nobody was told of an error"

    def _some(self, trials: tuple[str, ...], bits: int) -> tuple[str, ...]:
        return tuple(trial for trial in trials if not bits & 1 << TRIALS.index(trial) % 3)

    def _in_job(self) -> set[str]:
        if isinstance(self.job, actions.Open):
            return {call.trial for call in self.job.calls}
        return {*self.cohort} if isinstance(self.job, actions.Advance) else set()

    # -------------------------------------------------------------- what is decided
    def send(
        self,
        event: events.Event,
        replaced: WorkerCall | None = None,
        answerable: set[str] | frozenset[str] = frozenset(),
        failing: set[int] | frozenset[int] = frozenset(),
    ) -> None:
        """Send an event to admission, check and carry out its actions, and check that it can still progress."""
        self.may_answer, self.may_fail, self.wait_until = {*answerable}, {*failing}, math.inf
        self.state, decided = self.decide(self.state, event)
        for action in decided:
            self._carry_out(action, replaced)
        assert replaced is None or replaced.number in self.replies, "a worker does not hear that it was replaced"
        self._can_progress()

    def _carry_out(self, action: actions.Action, replaced: WorkerCall | None) -> None:
        match action:
            case actions.Redirect(call):
                assert call.number not in self.replies, "a call is answered twice"
                assert call.trial not in {*self.cohort} | self._in_job(), "a trial that trains is moved"
                self.replies[call.number] = action
                self.waiting.pop(call.trial)
                self.gone.add(call.trial)
            case actions.Reply(call) | actions.Fail(call):
                assert call.number not in self.replies, "a call is answered twice"
                self.replies[call.number] = action
                if isinstance(action, actions.Reply):
                    assert call.trial in self.may_answer, "a call is answered before its trial reached an eval"
                elif replaced is not None and call.number == replaced.number:
                    assert isinstance(action.error, WorkerReplaced)
                    return  # its trial has a newer call, or has left the world already
                else:
                    assert call.number in self.may_fail, "an error reaches a call that it does not concern"
                    assert action.error is PLANTED
                    assert action.company == max(1, len(self.may_fail)), "the wrong number of trials is suspected"
                self.waiting.pop(call.trial, None)
            case actions.WaitUntil(seconds):
                self.wait_until = seconds
            case _:
                assert self.job is None, "two jobs run at once"
                self._begin(action)
                self.job = action

    def _begin(self, job: Job) -> None:
        match job:
            case actions.Describe(calls):
                self.described = {call.trial for call in calls}
                assert self.described == self.waiting.keys()
                assert not self._missing() or self.now >= self._admission_deadline(), "it starts before the window ends"
            case actions.Open(calls):
                limits = [call.company for call in calls if call.company is not None]
                assert 0 < len(calls) <= min([self.most, *limits]), "too many trials train together"
                others = [
                    one for one in self.waiting.values() if one.company is not None and one.trial in self.described
                ]
                assert limits or not others, "trials that failed before are left behind"
                assert all(self.waiting.get(call.trial) for call in calls)
                assert len({description(call.trial).group for call in calls}) == 1, "these cannot train together"
                assert not self.suspect, "a base that cannot be trusted is used again"
            case actions.Advance(leave):
                assert {*leave} <= {*self.cohort}
                self._check_left_behind({*leave})
                self.cohort = tuple(trial for trial in self.cohort if trial not in leave)
                assert self.cohort and self.waiting.keys() >= {*self.cohort}, "a trial trains without its worker"
                self.apart = any(self.waiting[trial].company is not None for trial in self.cohort)
            case actions.Close(drop_base):
                assert drop_base == self.suspect, "the base must be dropped exactly when it cannot be trusted"
                if not self.stopped and not self.failed and not self.apart:
                    self._check_left_behind({*self.cohort})
                self.suspect, self.failed, self.apart, self.cohort = False, False, False, ()

    def _check_left_behind(self, trials: set[str]) -> None:
        late = self.reached_at is not None and self.now >= self.reached_at + ABSENCE_SECONDS
        for trial in trials:
            assert trial not in self.waiting and (trial in self.gone or late), "a member is left behind too soon"

    def _can_progress(self) -> None:
        """Every call that waits is waited for by a job, or by a deadline that has not passed."""
        if self.job is not None:
            return
        assert not (self.stopped and self.waiting), "a call waits although the launch is to stop"
        if self.cohort:
            assert self.reached_at is not None and not self.apart, "who trains apart does not join the others"
            missing = {*self.cohort} - self.waiting.keys() - self.gone
            assert missing, "the cohort waits although all of its members are there or gone"
            assert self.now < self.reached_at + ABSENCE_SECONDS, "an absent member holds up its cohort"
            assert self.now < self.wait_until <= self.reached_at + ABSENCE_SECONDS
        elif self.waiting:
            assert self._missing(), "calls wait although everybody expected is there"
            assert self.now < self._admission_deadline(), "an absent peer holds up the others"
            assert self.now < self.wait_until <= self._admission_deadline()
            assert absent(self.state) == self._missing()

    def _missing(self) -> set[str]:
        expected = {peer for call in self.waiting.values() for peer in call.peers}
        return expected - self.waiting.keys() - self.gone - self.ended

    def _admission_deadline(self) -> float:
        return min(call.since_seconds for call in self.waiting.values()) + ADMISSION_SECONDS

    def settle(self) -> None:
        """End every job well and let time pass, until no call waits."""
        for _ in range(100):
            if self.job is not None:
                self.finish(0 if not isinstance(self.job, actions.Advance) else 7)
            elif self.waiting or self.cohort:
                self.pass_time(self.wait_until - self.now)
            else:
                break
        assert not self.waiting and self.job is None, "calls wait for ever"
        assert len(self.replies) == self.number, "a call was never answered"


OPERATIONS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(TRIALS), st.sampled_from(("", "ab", "abcd", "abcdef", "bce"))),
    st.tuples(st.just("ask"), st.sampled_from(TRIALS), st.just("abcd"), st.integers(1, 2)),
    st.tuples(st.just("release"), st.sampled_from(("a", "bc", "abcdef"))),
    st.tuples(st.just("finish"), st.integers(0, 127)),
    st.tuples(st.just("finish"), st.integers(0, 7)),
    st.tuples(st.just("leave"), st.sampled_from(TRIALS), st.integers(1, 2)),
    st.tuples(st.just("time"), st.sampled_from((0.1, 1.0, 4.9, 5.0, 10.0))),
    st.tuples(st.just("end"), st.sampled_from(TRIALS)),
    st.sampled_from([("finish", 0), ("return",), ("stop",)]),
)
STARTED = [*(("ask", trial, "abc") for trial in "abc"), ("finish", 0), ("finish", 0)]  # a cohort trains
SCRIPTS = st.builds(lambda *parts: [*parts[0], *parts[1]], st.sampled_from(([], STARTED)), st.lists(OPERATIONS))


def play(decide: Decide, script: list[tuple[Any, ...]]) -> None:
    """Play a script to the end of all its calls."""
    world = World(decide)
    does: dict[str, Callable[..., Any]] = {
        "ask": world.ask, "time": world.pass_time, "end": world.end, "finish": world.finish, "stop": world.stop,
        "leave": world.leave_by, "return": world.come_back, "release": world.release,
    }  # fmt: skip
    for name, *arguments in script:
        does[name](*arguments)
    world.settle()


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCRIPTS)
def test_every_call_is_answered_once_and_no_rule_is_broken(script: list[tuple[Any, ...]]) -> None:
    play(decide, script)


# ---------------------------------------------------------------- faults that the rules must find
Step = tuple[State, tuple[actions.Action, ...]]


def ignoring(*kinds: type) -> Decide:
    return lambda state, event: (state, ()) if isinstance(event, kinds) else decide(state, event)


def without(kind: type) -> Decide:
    def faulty(state: State, event: events.Event) -> Step:
        state, decided = decide(state, event)
        return state, tuple(action for action in decided if not isinstance(action, kind))

    return faulty


def with_limits(**limits: Any) -> Decide:
    return lambda state, event: decide(replace(state, **limits), event)


def replaced_by(change: Callable[[State, events.Event], events.Event]) -> Decide:
    return lambda state, event: decide(state, change(state, event))


def acting(change: Callable[[actions.Action], list[actions.Action]]) -> Decide:
    def faulty(state: State, event: events.Event) -> Step:
        state, decided = decide(state, event)
        return state, tuple(further for action in decided for further in change(action))

    return faulty


def answers_everybody(state: State, event: events.Event) -> Step:
    state, decided = decide(state, event)
    if not isinstance(event, events.Reached):
        return state, decided
    others = tuple(actions.Reply(call) for call in state.waiting.values())
    return replace(state, waiting={}), (*decided, *others)


FAULTS: dict[str, Decide] = {
    "a late call is answered with the cohort's eval": answers_everybody,
    "a late call is expected for ever": with_limits(admission_seconds=math.inf),
    "an absent member is waited for for ever": with_limits(absence_seconds=math.inf),
    "peers are not waited for": with_limits(admission_seconds=-1.0),
    "members are not waited for": with_limits(absence_seconds=-1.0),
    "time is not seen": ignoring(events.Tick),
    "who left is waited for": ignoring(events.Left),
    "who ended is waited for": ignoring(events.Ended),
    "a stop is not seen": ignoring(events.Stopped),
    "a killed worker does not hear that it was replaced": without(actions.Fail),
    "no deadline is set": without(actions.WaitUntil),
    "calls are answered twice": acting(lambda one: [one, one] if isinstance(one, actions.Reply) else [one]),
    "a killed worker's late farewell takes its successor out": replaced_by(
        lambda state, event: (
            replace(event, worker=state.newest.get(event.trial, event.worker))
            if isinstance(event, events.Left)
            else event
        )
    ),
    "a cohort may have any size": lambda state, event: decide(replace(state, max_trials=None), event),
    "no memory fails everybody": replaced_by(
        lambda _, event: replace(event, out_of_memory=False) if isinstance(event, events.Failed) else event
    ),
    "all train together": replaced_by(
        lambda _, event: (
            replace(event, found={trial: description("a") for trial in event.found})
            if isinstance(event, events.Described)
            else event
        )
    ),
    "an absent member trains on": acting(
        lambda one: [actions.Advance()] if isinstance(one, actions.Advance) else [one]
    ),
    "a base that cannot be trusted stays": acting(
        lambda one: [actions.Close(False)] if isinstance(one, actions.Close) else [one]
    ),
    "who failed trains with all others": lambda state, event: decide(
        replace(state, waiting={trial: replace(call, company=None) for trial, call in state.waiting.items()}), event
    ),
    "a trial that trains is moved": lambda state, event: decide(
        replace(state, phase=Gathering()) if isinstance(event, events.Released) else state, event
    ),
    "a moved trial is waited for": lambda state, event: (
        (replace(decide(state, event)[0], gone=state.gone), decide(state, event)[1])
        if isinstance(event, events.Released)
        else decide(state, event)
    ),
    "who trains apart stays apart": lambda state, event: (
        decide(replace(state, phase=replace(state.phase, apart=False)), event)
        if isinstance(event, events.Reached) and isinstance(state.phase, Training)
        else decide(state, event)
    ),
    "the whole cohort is not suspected": acting(
        lambda one: [replace(one, company=1)] if isinstance(one, actions.Fail) else [one]
    ),
    "an invalid trial is forgotten": replaced_by(
        lambda _, event: replace(event, invalid=False) if isinstance(event, events.Reached) else event
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_breaks_a_rule(fault: Decide) -> None:
    @settings(
        max_examples=1000, deadline=None, database=None, derandomize=True, report_multiple_bugs=False,
        phases=[Phase.generate], suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(SCRIPTS)
    def played(script: list[tuple[Any, ...]]) -> None:
        play(fault, script)

    with pytest.raises(AssertionError):
        played()


# ---------------------------------------------------------------- the rules by example
def opened(peers: str) -> World:
    """A world in which the trials of `peers` have asked and train."""
    world = World(decide, State(None, ADMISSION_SECONDS, ABSENCE_SECONDS), most=len(TRIALS))
    for trial in peers:
        world.ask(trial, peers)
    world.finish(0)
    world.finish(0)
    assert (world.job, world.cohort) == (actions.Advance(), tuple(peers))
    return world


def test_when_all_members_are_present_the_engine_starts_at_once() -> None:
    world = World(decide)
    world.ask("a", "ab")
    assert (world.job, world.wait_until) == (None, ADMISSION_SECONDS)
    world.ask("b", "ab")
    assert isinstance(world.job, actions.Describe)


def test_a_late_call_makes_the_next_cohort() -> None:
    world = opened("ab")
    late = world.ask("c", "abc")
    world.finish(0)
    assert world.cohort == ("a", "b") and late.number not in world.replies
    for trial in "ab":
        world.ask(trial, "abc")
    world.finish(7)  # both end
    world.finish(0)  # the cohort is closed
    world.finish(0)  # the late call is described, at once: its peers have ended
    assert [call.trial for call in world.job.calls] == ["c"]  # type: ignore[union-attr]


def test_an_absent_member_is_dropped_after_the_window() -> None:
    world = opened("abc")
    world.finish(0)
    world.ask("a")
    world.ask("b")
    world.pass_time(ABSENCE_SECONDS - 0.1)
    assert world.job is None
    world.pass_time(0.1)
    assert world.job == actions.Advance(("c",))


def test_of_two_calls_for_one_trial_the_newer_is_answered_with_the_eval() -> None:
    world = opened("ab")
    killed = next(call for call in world.state.waiting.values() if call.trial == "a")
    retried = world.ask("a", "ab")
    assert isinstance(world.replies[killed.number], actions.Fail)
    world.leave("a", killed.worker)
    world.finish(0)
    assert isinstance(world.replies[retried.number], actions.Reply)
    assert world.cohort == ("a", "b")


def test_out_of_memory_halves_the_cohort_without_a_reply() -> None:
    world = opened("abcd")
    world.finish(96 + 4)
    assert world.replies == {} and world.job == actions.Close(drop_base=True)
    world.finish(0)
    world.finish(0)
    assert [call.trial for call in world.job.calls] == ["a", "b"]  # type: ignore[union-attr]


def test_out_of_memory_while_the_launch_stops_answers_all_instead_of_gathering_again() -> None:
    world = opened("abcd")
    world.stop()
    assert world.replies == {}, "they train on to their checkpoint"
    world.finish(96 + 4)
    assert all(isinstance(one, actions.Reply) for one in world.replies.values()) and len(world.replies) == 4
    world.settle()


def test_after_a_failure_trials_train_apart_to_the_next_eval_and_then_together_again() -> None:
    world = opened("abcd")
    world.finish(96)
    assert {one.company for one in world.replies.values() if isinstance(one, actions.Fail)} == {4}
    for trial in "abcd":
        world.ask(trial, "abcd", company=2)
    for pair in ("ab", "cd"):
        while not isinstance(world.job, actions.Advance):
            world.finish(0)
        assert world.cohort == tuple(pair)
        world.finish(0)  # they reach their eval
        for trial in pair:
            world.ask(trial, "abcd")
    while not isinstance(world.job, actions.Advance):
        world.finish(0)
    assert world.cohort == ("a", "b", "c", "d")


def test_only_trials_of_no_cohort_are_released() -> None:
    world = opened("ab")
    late = world.ask("c", "cd")
    world.release("abc")
    assert isinstance(world.replies[late.number], actions.Redirect)
    assert {*world.waiting} == {"a", "b"}
    world.finish(0)
    world.ask("a", "ab")
    world.release("a")
    assert {*world.waiting} == {"a"}, "between two evals it belongs to its cohort"


def test_the_base_in_memory_is_used_before_another_is_loaded() -> None:
    many, few = {"a": description("a"), "b": description("b")}, {"f": description("f")}
    from trainables.workers.admission import chosen

    assert chosen(many | few, ("other",), None) == ("f",)
    assert chosen(many | few, None, None) == ("a", "b")
    assert chosen({}, None, None) == ()


def test_an_impossible_event_is_refused() -> None:
    with pytest.raises(ValueError, match="Closed does not end gathering"):
        decide(State(), events.Closed())

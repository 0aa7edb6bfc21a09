"""Tests the engine actor with workers that arrive late, leave, stay away, are killed and retried, or stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from engine_room import (  # noqa: F401 the fixtures are used by their names
    Room,
    Solo,
    assert_alike,
    room_fixture,
    run,
    shared_room_fixture,
    solo_fixture,
    step_in,
    three_fixture,
    trial_fixture,
    verdict_in,
)

from trainables.data.duplicates import digest_of
from trainables.data.rows import read_rows
from trainables.frozen.keeping_file import KEEPING_FILE, read_keeping, write_keeping
from trainables.frozen.worth import ALWAYS, NEVER
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict
from trainables.workers.events import WorkerReplaced
from trainables.workers.protocol import PROTOCOL_VERSION, ProtocolMismatch, Report


# ---------------------------------------------------------------- who trains together
def test_workers_within_the_window_form_one_cohort_and_a_later_one_the_next(
    room: Room, three: list[Record], solo: Solo
) -> None:
    actor = room.actor(admission_seconds=30.0)
    first, second, late = three

    async def story() -> list[Any]:
        early = [asyncio.ensure_future(room.worker(actor, one, [first, second])) for one in (first, second)]
        while not actor.intervals:
            await asyncio.sleep(0.01)
        return await asyncio.gather(*early, room.worker(actor, late))

    reports = run(actor, story())
    assert actor.intervals == [{"trial-1", "trial-2"}] * 2 + [{"trial-3"}] * 2
    assert [[(step_in(one), one.done) for one in worker] for worker in reports] == [[(1, False), (2, True)]] * 3
    for record in three:
        assert_alike(record, solo(record))


def test_an_absent_worker_delays_the_others_for_the_window_only(room: Room, three: list[Record]) -> None:
    actor = room.actor(admission_seconds=0.5)
    first, second, never = three

    async def story() -> float:
        began = asyncio.get_running_loop().time()
        waiting = [asyncio.ensure_future(room.ask(actor, one, three)) for one in (first, second)]
        while not actor.intervals:
            await asyncio.sleep(0.01)
        started = asyncio.get_running_loop().time() - began
        await asyncio.gather(*waiting)
        return started

    assert 0.5 <= run(actor, story()) < 5.0
    assert actor.intervals[0] == {"trial-1", "trial-2"}
    assert never.checkpoint_steps() == []


def test_the_window_counts_from_the_first_that_waits(room: Room, three: list[Record]) -> None:
    actor = room.actor(admission_seconds=2.0, max_trials=1)

    async def story() -> None:
        await asyncio.gather(*(room.worker(actor, one, three) for one in three[:2]))  # the third never comes

    run(actor, story())
    assert actor.intervals == [{"trial-1"}] * 2 + [{"trial-2"}] * 2
    assert actor.watched.began[2] - actor.watched.began[1] < 2.0  # it had waited while the first trained


def test_trials_that_cannot_share_train_in_separate_cohorts(
    room: Room, trial: Callable[..., TrialSpec], solo: Solo
) -> None:
    specs = [trial(1), trial(2), trial(3, data_seed=1), trial(4, steps=3), trial(5, data_seed=1)]
    records = [room.record(spec) for spec in specs]
    actor = room.actor()
    run(actor, room.workers(actor, records))
    assert [sorted(one) for one in actor.intervals] == [
        *[["trial-1", "trial-2"]] * 2, *[["trial-3", "trial-5"]] * 2, *[["trial-4"]] * 3,
    ]  # fmt: skip
    for record in records:
        assert_alike(record, solo(record))


def test_trials_that_began_apart_train_in_separate_cohorts(room: Room, three: list[Record], solo: Solo) -> None:
    """Each goes on as it began, whoever is resumed beside it."""
    old = room.actor()

    async def story() -> None:
        await asyncio.gather(*(room.ask(old, one, three) for one in three))

    run(old, story())
    for record, began in zip(three, (ALWAYS, NEVER, ALWAYS), strict=True):
        write_keeping(record.directory, began)
    new = room.actor()
    run(new, room.workers(new, three))
    assert new.intervals == [{"trial-1", "trial-3"}, {"trial-2"}]
    assert [read_keeping(record.directory) for record in three] == [ALWAYS, NEVER, ALWAYS]
    for record in three:
        assert_alike(record, solo(record))


def test_a_damaged_decision_ends_its_own_trial_alone(room: Room, three: list[Record]) -> None:
    """Its verdict says what to do, and doing it works."""
    damaged = three[0]
    (damaged.directory / KEEPING_FILE).write_text("{", encoding="utf-8")
    actor = room.actor()
    run(actor, room.workers(actor, three))
    assert [str(record.verdict()) for record in three] == ["infeasible(input)", "completed", "completed"]
    assert actor.intervals == [{"trial-2", "trial-3"}] * 2
    verdict = damaged.verdict()
    assert verdict is not None and "run the trial again" in (verdict.reason or "")
    for name in (KEEPING_FILE, "verdict.json", "manifest.json"):
        (damaged.directory / name).unlink()
    actor = room.actor()
    run(actor, room.worker(actor, damaged))
    assert str(damaged.verdict()) == "completed" and read_keeping(damaged.directory) == NEVER


def test_a_cohort_takes_at_most_so_many_and_neighbours_stay_together(
    room: Room, trial: Callable[..., TrialSpec]
) -> None:
    specs = [trial(3), trial(1, placement=Placement(language=1, vision=1)), trial(2), trial(4)]
    records = [room.record(spec) for spec in specs]
    actor = room.actor(max_trials=2)
    run(actor, room.workers(actor, records))
    assert actor.intervals == [{"trial-2", "trial-3"}] * 2 + [{"trial-4", "trial-1"}] * 2


# ---------------------------------------------------------------- who moves
def test_a_trial_that_waits_is_released_to_another_engine_and_one_that_trains_is_not(
    room: Room, trial: Callable[..., TrialSpec]
) -> None:
    trains, waits = (room.record(trial(number, data_seed=number)) for number in (1, 2))
    busy, idle = room.actor(), room.actor()
    moved: list[tuple[str, ...]] = []

    async def story() -> list[Report]:
        first = asyncio.ensure_future(room.ask(busy, trains))
        while not busy.intervals:
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(room.ask(busy, waits))
        while str(waits.home) not in busy._state.waiting:
            await asyncio.sleep(0.01)
        moved.append(await busy.release([str(trains.home), str(waits.home)]))
        return [await second, await first]

    away, report = run(busy, story())
    assert moved == [(str(waits.home),)]
    assert away.moved and not away.done and away.trials == ()
    assert not report.moved and step_in(report) == 1
    run(idle, room.worker(idle, waits))
    assert str(waits.verdict()) == "completed"


# ---------------------------------------------------------------- who leaves
def test_a_worker_that_stays_away_is_dropped_and_the_others_are_as_without_it(
    room: Room, three: list[Record], solo: Solo
) -> None:
    actor = room.actor()
    *stay, away = three

    async def story() -> None:
        await asyncio.gather(room.ask(actor, away, three), *(room.worker(actor, one, three) for one in stay))

    run(actor, story())
    assert actor.intervals == [{"trial-1", "trial-2", "trial-3"}, {"trial-1", "trial-2"}]
    assert (away.verdict(), away.checkpoint_steps()) == (None, [1])
    for record in stay:
        assert_alike(record, solo(record))


def test_when_a_worker_leaves_the_others_continue_at_once(room: Room, three: list[Record], solo: Solo) -> None:
    actor = room.actor(absence_seconds=1000.0)
    *stay, leaver = three

    async def stopped_by_tune() -> None:
        await room.ask(actor, leaver, three)
        await actor.leave(room.request(leaver))

    async def story() -> None:
        await asyncio.gather(stopped_by_tune(), *(room.worker(actor, one, three) for one in stay))

    run(actor, story())
    assert actor.intervals[-1] == {"trial-1", "trial-2"}
    for record in stay:
        assert_alike(record, solo(record))


def test_a_worker_that_leaves_before_the_start_is_neither_trained_nor_awaited(room: Room, three: list[Record]) -> None:
    actor = room.actor(admission_seconds=1000.0)
    *stay, leaver = three

    async def story() -> Any:
        leaving = asyncio.ensure_future(room.ask(actor, leaver, three))
        await asyncio.sleep(0.05)
        await actor.leave(room.request(leaver))
        await asyncio.gather(*(room.worker(actor, one, three) for one in stay))
        return await asyncio.gather(leaving, return_exceptions=True)

    [heard] = run(actor, story())
    assert isinstance(heard, WorkerReplaced)
    assert all("trial-3" not in one for one in actor.intervals)


# ---------------------------------------------------------------- who is killed
def test_a_worker_retried_while_its_cohort_trains_goes_on_in_it(room: Room, three: list[Record], solo: Solo) -> None:
    actor = room.actor(absence_seconds=1000.0)
    *stay, killed = three

    async def killed_and_retried() -> Any:
        lost = asyncio.ensure_future(room.ask(actor, killed, three, worker="killed"))
        while not actor.intervals:
            await asyncio.sleep(0.001)
        reports = [await room.ask(actor, killed, three, worker="retried")]
        await actor.leave(room.request(killed, worker="killed"))  # what the old process said last arrives late
        reports.append(await room.ask(actor, killed, three, worker="retried"))
        return lost, reports

    async def story() -> Any:
        return await asyncio.gather(killed_and_retried(), *(room.worker(actor, one, three) for one in stay))

    actor.watched.meanwhile = lambda number, _: time.sleep(0.2)
    (lost, reports), *_ = run(actor, story())
    assert isinstance(lost.exception(), WorkerReplaced)
    assert [step_in(one) for one in reports] == [1, 2]
    assert actor.intervals == [{"trial-1", "trial-2", "trial-3"}] * 2
    for record in three:
        assert_alike(record, solo(record))


def test_a_worker_retried_too_late_joins_the_next_cohort(room: Room, three: list[Record], solo: Solo) -> None:
    actor = room.actor(absence_seconds=0.1)
    *stay, killed = three

    async def story() -> None:
        others = [asyncio.ensure_future(room.worker(actor, one, three)) for one in stay]
        await room.ask(actor, killed, three, worker="killed")
        while len(actor.intervals) < 2:
            await asyncio.sleep(0.01)
        assert verdict_in(await room.ask(actor, killed, three, worker="retried")) == "completed"
        await asyncio.gather(*others)

    run(actor, story())
    assert actor.intervals[1:] == [{"trial-1", "trial-2"}, {"trial-3"}]
    for record in three:
        assert_alike(record, solo(record))


def test_a_request_for_an_ended_trial_is_answered_at_once(room: Room, three: list[Record]) -> None:
    ended, training, _ = three
    actor = room.actor()

    async def story() -> Any:
        await room.worker(actor, ended)
        actor.watched.meanwhile = lambda number, _: time.sleep(0.5)
        busy = asyncio.ensure_future(room.ask(actor, training))
        while len(actor.intervals) < 3:
            await asyncio.sleep(0.01)
        report = await room.ask(actor, ended)
        return report, busy.done(), await busy

    report, waited, _ = run(actor, story())
    assert (verdict_in(report), report.done, waited) == ("completed", True, False)


def test_nobody_waits_for_a_trial_that_ended(room: Room, three: list[Record]) -> None:
    asks, ended, _ = three
    ended.close(Verdict(kind="infeasible", step=0, cause="input"))
    actor = room.actor(admission_seconds=1000.0)
    run(actor, room.ask(actor, asks, [asks, ended]))
    assert actor.intervals == [{"trial-1"}]


def test_a_trial_that_is_ahead_trains_apart(room: Room, three: list[Record], solo: Solo) -> None:
    ahead, *rest = three
    actor = room.actor()
    run(actor, room.ask(actor, ahead))
    actor = room.actor()
    run(actor, room.workers(actor, three))
    assert actor.intervals == [{"trial-2", "trial-3"}] * 2 + [{"trial-1"}]
    for record in [ahead, *rest]:
        assert_alike(record, solo(record))


def test_the_base_in_memory_is_used_up_before_another_is_loaded(
    room: Room, trial: Callable[..., TrialSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.workers.engine_cache.SelfTest", lambda *_: None)
    few = [trial(number, steps=1) for number in (1, 2)]
    rows = few[0].train.path.read_text(encoding="utf-8").splitlines(keepends=True)
    another = few[0].train.path.with_name("all-but-one.jsonl")  # where the pictures are
    another.write_text("".join(rows[1:]), encoding="utf-8")
    images = (image for row in read_rows(another) for image in row.images)
    elsewhere = Source(path=another, sha256=digest_of(another, images))
    many = [trial(number, steps=1, train=elsewhere) for number in (3, 4, 5)]
    actor = room.actor(max_trials=1)
    run(actor, room.workers(actor, [room.record(spec) for spec in (*many, *few)]))
    assert [one for interval in actor.intervals[:2] for one in interval] == ["trial-1", "trial-2"]
    assert len(actor.intervals) == 5


def test_a_new_process_continues_from_the_records(room: Room, three: list[Record], solo: Solo) -> None:
    old, new = room.actor(), room.actor()

    async def story() -> None:
        await asyncio.gather(*(room.ask(old, one, three) for one in three))

    run(old, story())
    assert [record.checkpoint_steps() for record in three] == [[1]] * 3
    run(new, room.workers(new, three))
    assert new.intervals == [{"trial-1", "trial-2", "trial-3"}]
    for record in three:
        assert_alike(record, solo(record))


# ---------------------------------------------------------------- requests
def test_a_request_for_several_trials_is_answered_once_with_all_of_them(
    room: Room, three: list[Record], solo: Solo
) -> None:
    ended, *rest = three
    actor = room.actor()
    run(actor, room.worker(actor, ended))
    actor = room.actor()
    one = room.request(rest[0], three)
    request = replace(one, trials=tuple(str(record.directory) for record in three), lease_epoch=7)

    async def story() -> list[Report]:
        return [await actor.advance(request), await actor.advance(request)]

    first, second = run(actor, story())
    assert actor.intervals == [{"trial-2", "trial-3"}] * 2
    assert [(trial.record, trial.step) for trial in first.trials] == list(zip(request.trials, (2, 1, 1), strict=True))
    assert (first.done, second.done, second.lease_epoch) == (False, True, 7)
    for record in three:
        assert_alike(record, solo(record))


def test_a_request_of_another_version_is_refused(room: Room, three: list[Record]) -> None:
    actor = room.actor()
    request = replace(room.request(three[0]), version=PROTOCOL_VERSION + 1)
    with pytest.raises(ProtocolMismatch, match=rf"but a request has version {PROTOCOL_VERSION + 1}"):
        run(actor, actor.advance(request))
    assert actor.intervals == []


# ---------------------------------------------------------------- the stop file
def test_a_stop_file_leads_to_checkpoints_and_an_end_for_all_and_they_go_on(
    room: Room, trial: Callable[..., TrialSpec], solo: Solo
) -> None:
    specs = [trial(1, steps=4, eval_every_steps=4), trial(2, steps=4, eval_every_steps=4), trial(3)]
    records = [room.record(spec) for spec in specs]
    actor = room.actor()

    def stopped(number: int, cohort: Any) -> None:
        learn, last = cohort.trials[-1].finish_step, cohort.trials[-1]

        def learned(*values: Any) -> Any:
            if last.step == 1:
                room.stop_file.touch()
            return learn(*values)

        last.finish_step = learned

    actor.watched.meanwhile = stopped
    reports = run(actor, room.workers(actor, records))
    assert [[(verdict_in(one), one.done) for one in worker] for worker in reports] == [[(None, True)]] * 3
    assert [record.checkpoint_steps() for record in records] == [[2], [2], []]
    room.stop_file.unlink()
    actor = room.actor()
    run(actor, room.workers(actor, records))
    for record in records:
        assert_alike(record, solo(record))


def test_a_stop_file_ends_the_wait_for_peers(room: Room, three: list[Record]) -> None:
    actor = room.actor(admission_seconds=1000.0)

    async def story() -> Any:
        asking = asyncio.ensure_future(room.ask(actor, three[0], three))
        await asyncio.sleep(0.05)
        room.stop_file.touch()
        return await asking

    assert run(actor, story(), seconds=10.0).done
    assert actor.intervals == []
    assert three[0].checkpoint_steps() == []

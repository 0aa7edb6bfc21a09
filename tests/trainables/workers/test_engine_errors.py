"""Tests every failure of a cohort, a trial, a record or the device: only the affected trials are notified."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from engine_room import (  # noqa: F401 the fixtures are used by their names
    Failed,
    Room,
    Solo,
    WatchedEngine,
    assert_alike,
    room_fixture,
    run,
    shared_room_fixture,
    solo_fixture,
    three_fixture,
    trial_fixture,
    verdict_in,
)

from trainables.record import Record
from trainables.spec import TrialSpec
from trainables.workers.retries import TrialFailure


# ---------------------------------------------------------------- what goes wrong
@pytest.mark.parametrize(
    "error", [RuntimeError("a planted fault"), pytest.param(StopIteration(), marks=pytest.mark.slow)]
)
def test_an_error_of_the_cohort_reaches_every_worker_and_the_next_one_starts_afresh(
    error: Exception, room: Room, three: list[Record], solo: Solo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.workers.engine_cache.SelfTest", lambda *_: None)
    actor = room.actor()

    def broken(number: int, _: object) -> None:
        if number == 2:
            raise error

    actor.watched.meanwhile = broken

    async def story() -> Any:
        heard = await asyncio.gather(*(room.worker(actor, one, three) for one in three), return_exceptions=True)
        await asyncio.gather(*(room.worker(actor, one, three) for one in three))
        return heard

    heard = run(actor, story())
    assert all(isinstance(one, RuntimeError) for one in heard)
    assert actor.intervals == [{"trial-1", "trial-2", "trial-3"}] * 3
    for record in three:
        assert_alike(record, solo(record))


def test_after_an_error_the_old_base_is_freed_before_the_next_is_loaded(
    room: Room, three: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.workers.engine_cache.SelfTest", lambda *_: None)
    actor = room.actor()
    assert actor.runner.cache is not None
    actor.runner.cache.drop()
    bases: list[Any] = []
    left: list[Any] = []

    def broken(number: int, cohort: Any) -> None:
        left.extend(base() for base in bases)
        bases.append(weakref.ref(cohort.engine.base.model))
        if number == 1:
            raise RuntimeError("a planted fault")

    actor.watched.meanwhile = broken

    async def story() -> Any:
        heard = await asyncio.gather(*(room.ask(actor, one, three) for one in three), return_exceptions=True)
        await asyncio.gather(*(room.ask(actor, one, three) for one in three))
        return heard

    heard = run(actor, story())
    assert all(isinstance(one, RuntimeError) for one in heard)
    assert left == [None]


def test_a_failed_device_ends_the_process_after_the_workers_are_notified(
    room: Room, three: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    class AcceleratorError(RuntimeError):
        """Has the name of torch's error for a failed device."""

    ended: list[int] = []
    monkeypatch.setattr("trainables.workers.engine_cache.SelfTest", lambda *_: None)
    monkeypatch.setattr("trainables.workers.engine_actor.REPLY_SECONDS", 0.05)
    monkeypatch.setattr("trainables.workers.engine_actor.os._exit", ended.append)
    actor = room.actor()

    def broken(number: int, _: object) -> None:
        raise AcceleratorError("device-side assert") if number == 1 else RuntimeError("anything else")

    actor.watched.meanwhile = broken

    async def story() -> Any:
        heard = await asyncio.gather(*(room.ask(actor, one, three) for one in three), return_exceptions=True)
        at_once = list(ended)
        await asyncio.sleep(0.2)
        # any other error leaves the process as it is
        await asyncio.gather(*(room.ask(actor, one, three) for one in three), return_exceptions=True)
        await asyncio.sleep(0.2)
        return heard, at_once

    heard, at_once = run(actor, story())
    assert {one.failure for one in heard} == {TrialFailure("AcceleratorError: device-side assert", company=3)}
    assert (at_once, ended) == ([], [1])


def test_an_error_while_a_trial_opens_is_its_own(
    room: Room, three: list[Record], solo: Solo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.training.trial import Trial

    *good, bad = three
    check_before_training = Trial.check_before_training

    def broken(trial: Trial) -> Any:
        if trial.record.home == bad.home:
            raise RuntimeError("a planted fault")
        return check_before_training(trial)

    monkeypatch.setattr(Trial, "check_before_training", broken)
    actor = room.actor()
    *_, heard = run(actor, _heard(room, actor, three))
    assert isinstance(heard, Failed) and heard.failure == TrialFailure("RuntimeError: a planted fault", company=1)
    assert "check_before_training" in (bad.home / "failure-1.txt").read_text(), "the traceback is lost"
    assert not list(good[0].home.glob("failure-*"))
    assert actor.intervals == [{"trial-1", "trial-2"}] * 2
    monkeypatch.undo()
    for record in good:
        assert_alike(record, solo(record))


async def _heard(room: Room, actor: WatchedEngine, records: list[Record]) -> list[Any]:
    return await asyncio.gather(*(room.worker(actor, one, records) for one in records), return_exceptions=True)


@pytest.mark.parametrize("file", ["spec.json", "verdict.json", "metrics.jsonl"])
def test_a_damaged_record_fails_only_its_own_worker(file: str, room: Room, three: list[Record], solo: Solo) -> None:
    *good, bad = three
    (bad.directory / file).write_text("{}\n{}\n")
    actor = room.actor()
    *_, heard = run(actor, _heard(room, actor, three))
    assert isinstance(heard, Exception) or bad.verdict() is not None
    for record in good:
        assert_alike(record, solo(record))


def test_rows_that_are_too_long_end_only_the_trials_that_read_them(
    room: Room, trial: Callable[..., TrialSpec], solo: Solo
) -> None:
    records = [room.record(trial(number, max_tokens=8 if number > 1 else 2048)) for number in (1, 2, 3)]
    actor = room.actor()
    _, *long = run(actor, room.workers(actor, records))
    assert [[verdict_in(one) for one in reports] for reports in long] == [["infeasible(input)"]] * 2
    verdict = records[1].verdict()
    assert verdict is not None and "must fit max_tokens = 8" in (verdict.reason or "")
    assert verdict.step == 0
    assert_alike(records[0], solo(records[0]))


def test_a_misplaced_adapter_is_invalid_and_the_others_train_on_a_fresh_base(
    room: Room, three: list[Record], solo: Solo, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    monkeypatch.setattr("trainables.workers.engine_cache.SelfTest", lambda *_: None)

    def skipped(**values: Any) -> Any:
        modules = values["target_modules"]
        asked = modules[1:] if _layers(modules) == {"6", "7"} else modules  # trial-2 of eight layers
        return peft.LoraConfig(**values | {"target_modules": asked})

    engines: list[object] = []
    actor = room.actor()
    actor.watched.meanwhile = lambda number, cohort: engines.append(cohort.engine)
    with monkeypatch.context() as patched:
        patched.setattr("trainables.model.lora.LoraConfig", skipped)
        _, second, _ = run(actor, room.workers(actor, three))
    assert [verdict_in(one) for one in second] == ["invalid(placement)"]
    assert actor.intervals == [{"trial-1", "trial-3"}] * 2
    assert all(one is not room.engine for one in engines)
    for record in (three[0], three[2]):
        assert_alike(record, solo(record))


def _layers(modules: list[str]) -> set[str]:
    return {part for name in modules for part in name.split(".") if part.isdecimal()}


def test_a_trial_that_turns_invalid_leaves_alone_and_the_base_goes_after_its_cohort(
    room: Room, three: list[Record], solo: Solo
) -> None:
    actor = room.actor()

    def diverged(number: int, cohort: Any) -> None:
        if number == 2:
            for _, factor in cohort.trials[1].adapter.trained():
                factor.data.fill_(float("nan"))

    actor.watched.meanwhile = diverged
    _, second, _ = run(actor, room.workers(actor, three))
    assert verdict_in(second[-1]) == "invalid(non_finite_loss)"
    for record in (three[0], three[2]):
        assert_alike(record, solo(record))
    assert actor.runner.cache is not None and actor.runner.cache.engine is None


# ---------------------------------------------------------------- memory
def test_out_of_memory_halves_the_cohort(
    room: Room, trial: Callable[..., TrialSpec], solo: Solo, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("trainables.workers.engine_cache.SelfTest", lambda *_: None)
    records = [room.record(trial(number)) for number in (1, 2, 3, 4)]
    actor = room.actor()

    def full(number: int, cohort: Any) -> None:
        if len(cohort.trials) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    actor.watched.meanwhile = full
    run(actor, room.workers(actor, records))
    assert [len(one) for one in actor.intervals] == [4, 2, 2, 2, 2]
    for record in records:
        assert_alike(record, solo(record))


def test_out_of_memory_of_a_single_trial_is_its_verdict(
    room: Room, three: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from trainables.cohort.cohort import Cohort

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore lines")

    monkeypatch.setattr(Cohort, "advance", full)
    actor = room.actor()
    [[report]] = run(actor, room.workers(actor, three[:1]))
    assert (verdict_in(report), report.done) == ("infeasible(memory)", True)
    verdict = three[0].verdict()
    assert verdict is not None and verdict.reason == "CUDA out of memory. Tried to allocate 2 GiB"


# ---------------------------------------------------------------- and when nothing fails
def test_a_baseline_is_measured_as_the_base_alone(room: Room, trial: Callable[..., TrialSpec]) -> None:
    record = room.record(trial(1).baseline())
    actor = room.actor()
    [[report]] = run(actor, room.workers(actor, [record]))
    assert (verdict_in(report), report.done) == ("completed", True)
    assert record.evals()[0].metrics == pytest.approx(room.baseline.metrics)

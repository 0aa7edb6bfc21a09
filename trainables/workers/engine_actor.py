"""The engine actor: one process, one device, one base; it trains the seats that ask it together, as a cohort.

Seats wait in `advance` until their trial reached its next eval. Those that arrive within the admission window make a
cohort; later ones make the next. Training runs on a thread of its own, so that seats can come and go meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainables.record import Record
from trainables.spec import cohort_key, engine_key, neighbourhood
from trainables.workers.admission import Arrival, WaitingRoom
from trainables.workers.protocol import Rules, Standing, standing

if TYPE_CHECKING:
    from trainables.cohort.cohort import Cohort
    from trainables.training.trial import Trial
    from trainables.workers.engine_cache import Resident


Result = TypeVar("Result")

REPLY_SECONDS = 1.0  # what answers need to leave a process that is about to end


@dataclass(frozen=True)
class EngineSettings:
    """How an engine serves: its threads (cores), trials at most in a cohort, how long it waits for seats (seconds).

    `admission_seconds` counts from the first seat that waits; with all of its company there the engine starts at once.
    A seat that does not come back within `absence_seconds` of an eval is taken out of its cohort.
    """

    threads: int
    stop_file: str
    max_trials: int | None = None
    admission_seconds: float = 60.0
    absence_seconds: float = 60.0


class EngineActor:
    """Run by Ray as a named asyncio actor, one for each GPU, one for each node without.

    It keeps who waits and nothing of the trials, whose records say where they stand: a new process goes on as the old.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.room = WaitingRoom()
        self._most = settings.max_trials
        self._chosen: list[str] = []
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._thread.submit(import_module, "trainables.cohort.cohort")  # torch loads while the seats start
        self._serving: asyncio.Task[None] | None = None
        self._resident: Resident | None = None

    async def advance(self, record: str, rules: Rules, company: Sequence[str], seat: str) -> Standing:
        """Take the record's trial to its next eval, with whoever of `company` shares its base; returns where it stands.

        `seat` is the caller's own mark: of two seats that stand for one trial, the one that asked last does.

        Raises:
            Exception: whatever ended the cohort; the seat may ask again, and goes on from its newest checkpoint.
        """
        if Record(Path(record)).verdict() is not None:  # reached with a seat that was killed meanwhile
            return standing(Record(Path(record)), self._stop_requested())
        if self._serving is None or self._serving.done():
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        return await (await self.room.come(record, rules, company, seat))

    async def leave(self, record: str, seat: str) -> None:
        """Take the record's trial out of its cohort at the next eval: its seat has ended."""
        await self.room.go(record, seat)

    # ---------------------------------------------------------------- cohort after cohort
    async def _serve(self) -> None:
        while True:
            cohort = asyncio.ensure_future(self._cohort())
            await asyncio.wait({cohort})
            error = cohort.exception()
            if error is not None:
                await self._rescue(error)

    async def _cohort(self) -> None:
        self._chosen = []
        self._chosen = await self._admitted()
        cohort = await self._opened_together()
        members = set(_names(cohort.trials)) if cohort else set()
        await self._answer([name for name in self._chosen if name not in members])
        if cohort is None:
            return
        kinds: set[str] = set()
        try:
            while cohort.trials:
                members = _names(cohort.trials)
                kinds |= await self._in_thread(partial(self._advance, cohort))
                await self._answer(members)
                if self._stop_requested():
                    break
                await self._compact(cohort)
        finally:
            cohort.remove()
        if "invalid" in kinds:
            await self._in_thread(self._drop)  # what made a trial invalid may be in the base

    async def _admitted(self) -> list[str]:
        room = self.room
        end = await room.first_came() + self.settings.admission_seconds
        await room.until(lambda: not room.missing() or self._stop_requested(), end)
        kinds: dict[tuple[object, ...], dict[str, tuple[object, ...]]] = {}
        for name, (kind, place) in (await self._each(list(room.waiting), _kind_and_place)).items():
            kinds.setdefault(kind, {})[name] = place
        if not kinds:
            return []
        held = self._resident.engine.key if self._resident and self._resident.engine else None
        # another base is loaded only when nobody waits for this one
        _, places = max(kinds.items(), key=lambda item: (item[0][0] == held, len(item[1])))
        return sorted(places, key=places.__getitem__)[: self._most]

    async def _compact(self, cohort: Cohort) -> None:
        room, trials = self.room, dict(zip(_names(cohort.trials), cohort.trials, strict=True))
        end = asyncio.get_running_loop().time() + self.settings.absence_seconds
        await room.until(lambda: trials.keys() <= room.waiting.keys() | room.gone or self._stop_requested(), end)
        for absent in trials.keys() - room.waiting.keys():
            cohort.leave(trials[absent].spec.trial_id)

    async def _answer(self, names: Sequence[str]) -> None:
        stopped = self._stop_requested()
        self.room.report(await self._each(names, lambda one: standing(one.record, stopped)))

    async def _each(self, names: Iterable[str], work: Callable[[Arrival], Result]) -> dict[str, Result]:
        """Do `work` for everyone of `names` who waits; an error ends the wait of that seat alone."""
        done: dict[str, Result] = {}
        for name in names:
            if name in self.room.waiting:
                attempt = asyncio.ensure_future(self._in_thread(partial(work, self.room.waiting[name])))
                await asyncio.wait({attempt})
                error = attempt.exception()
                if error is None:
                    done[name] = attempt.result()
                else:
                    self._fail([name], error)
        return done

    # ---------------------------------------------------------------- errors
    async def _rescue(self, error: BaseException) -> None:
        """Tell the seats why their cohort ended, or let half as many try when the memory did not suffice."""
        together = [name for name in self._chosen if name in self.room.waiting]
        if _is_named("OutOfMemoryError", error) and len(together) > 1:
            self._most = len(together) // 2  # they still wait
        else:
            self._fail(together if self._chosen else list(self.room.waiting), error)
        _forget_frames(error)
        await asyncio.wait({asyncio.ensure_future(self._in_thread(self._drop))})

    def _fail(self, names: Iterable[str], error: BaseException) -> None:
        self.room.fail(names, error)
        if _is_named("AcceleratorError", error):  # the device is of no more use to this process; Ray starts another
            asyncio.get_running_loop().call_later(REPLY_SECONDS, os._exit, 1)

    # ---------------------------------------------------------------- on the training thread
    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _deliverable, work)

    async def _opened_together(self) -> Cohort | None:
        from trainables.cohort.cohort import Cohort

        found = (await self._each(self._chosen, self._opened)).values()
        trials = [trial for trial in found if trial is not None]
        if any(self._resident is None or trial.engine is not self._resident.engine for trial in trials):
            return await self._opened_together()  # an invalid one made the base go; without it they open again
        return await self._in_thread(lambda: Cohort(trials[0].engine, trials)) if trials else None

    def _opened(self, arrival: Arrival) -> Trial | None:
        import torch

        from trainables.workers.engine_cache import Resident

        if arrival.record.verdict() is not None or self._stop_requested():
            return None
        if self._resident is None:
            torch.set_num_threads(self.settings.threads)  # of this thread, which computes
            self._resident = Resident()
        trial = self._proved(arrival, self._resident)
        verdict = arrival.record.verdict()
        if verdict is not None and verdict.kind == "invalid":
            self._drop()  # what made the trial invalid may be in the base
        return trial

    def _proved(self, arrival: Arrival, resident: Resident) -> Trial | None:
        from trainables.training.baseline import BaselineTrial
        from trainables.training.failures import InputErrors, infeasible

        trial = resident.open(arrival.record, arrival.rules)
        if trial is None:
            return None
        try:
            if isinstance(trial, BaselineTrial):
                trial.advance(self._stop_requested)
            elif trial.owed() is None:
                return trial
        except InputErrors as error:
            arrival.record.close(infeasible(error, trial.step))
        finally:
            trial.remove()  # the base is free for the next; the tensors stay, for the cohort's bank
        return None

    def _advance(self, cohort: Cohort) -> set[str]:
        """Take the cohort to its next eval; returns the kinds of the verdicts that this brought."""
        import torch

        from trainables.training.failures import infeasible

        try:
            return {verdict.kind for verdict in cohort.advance(self._stop_requested).values()}
        except torch.OutOfMemoryError as error:
            if len(cohort.trials) > 1:
                raise  # fewer may fit
            trial = cohort.trials[0]
            verdict = trial.close(infeasible(error, trial.step))
            cohort.leave(trial.spec.trial_id)
        return {verdict.kind}

    def _drop(self) -> None:
        if self._resident is not None:
            self._resident.drop()

    def _stop_requested(self) -> bool:
        return Path(self.settings.stop_file).exists()


def _kind_and_place(arrival: Arrival) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Return what seats share who train together (their engine's key first), and where a seat stands among them."""
    spec, steps = arrival.record.spec(), arrival.record.checkpoint_steps()
    begins = steps[0] if steps else 0
    return (engine_key(spec), spec.placement.is_baseline, cohort_key(spec), begins), neighbourhood(spec)


def _names(trials: Iterable[Trial]) -> list[str]:
    return [str(trial.record.directory) for trial in trials]


def _deliverable(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except StopIteration as error:  # which no future can hold: who awaits it would wait for ever
        raise RuntimeError("the engine's work ended with StopIteration") from error


def _is_named(name: str, error: BaseException) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)  # of torch, which may not be what failed


def _forget_frames(error: BaseException | None) -> None:
    while error is not None:  # they hold the base that makes room for the next
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__

"""Where seats wait for their engine: who came, who left, who is missing, and what each of them hears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trainables.record import Record
from trainables.workers.protocol import Rules, Standing

LOOK_SECONDS = 1.0  # between two looks at what no message announces: the stop file, verdicts written elsewhere


@dataclass(frozen=True)
class Arrival:
    """A seat that waits since `since` (seconds of the loop's clock), and where its report goes.

    `company` are the records it expects beside its own; `seat` tells it from an earlier seat of the same trial.
    """

    record: Record
    rules: Rules
    company: Sequence[str]
    seat: str
    since: float
    report: asyncio.Future[Standing] = field(compare=False)


class SeatReplaced(Exception):
    """What a seat hears that waited and is gone: another stands for its trial, or none."""


class WaitingRoom:
    """The seats of one engine; used on its event loop only. A seat that waits is answered once, whatever happens."""

    def __init__(self) -> None:
        self.waiting: dict[str, Arrival] = {}
        self.gone: set[str] = set()
        self._newest: dict[str, str] = {}
        self._changed = asyncio.Condition()

    async def come(self, record: str, rules: Rules, company: Sequence[str], seat: str) -> asyncio.Future[Standing]:
        """Let a seat wait, in place of an earlier one of the same trial; returns its report to come."""
        loop = asyncio.get_running_loop()
        arrival = Arrival(Record(Path(record)), rules, company, seat, loop.time(), loop.create_future())
        async with self._changed:
            self.fail([record], SeatReplaced(record))  # it was killed while it waited
            self._newest[record] = seat
            self.gone.discard(record)
            self.waiting[record] = arrival
            self._changed.notify_all()
        return arrival.report

    async def go(self, record: str, seat: str) -> None:
        """Let a seat leave; one that is no longer its trial's newest changes nothing."""
        async with self._changed:
            if self._newest.setdefault(record, seat) != seat:
                return  # overtaken: a retried seat stands for the trial by now
            self.fail([record], SeatReplaced(record))
            self.gone.add(record)
            self._changed.notify_all()

    def report(self, reports: Mapping[str, Standing]) -> None:
        """Answer those of `reports` who wait."""
        for name, report in reports.items():
            arrival = self.waiting.pop(name, None)
            if arrival is not None and not arrival.report.done():
                arrival.report.set_result(report)

    def fail(self, names: Iterable[str], error: BaseException) -> None:
        """End the wait of `names` with an error."""
        for name in names:
            arrival = self.waiting.pop(name, None)
            if arrival is not None and not arrival.report.done():
                arrival.report.set_exception(error)

    def missing(self) -> set[str]:
        """Return the records somebody expects beside its own, that neither wait, nor left, nor have a verdict."""
        expected = {name for arrival in self.waiting.values() for name in arrival.company}
        absent = expected - self.waiting.keys() - self.gone
        # whether there is a verdict, not which: one that cannot be read concerns its own seat
        return {name for name in absent if not (Path(name) / "verdict.json").exists()}

    async def first_came(self) -> float:
        """Wait until somebody waits; returns since when (seconds of the loop's clock)."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self.waiting))
            return min(arrival.since for arrival in self.waiting.values())

    async def until(self, condition: Callable[[], bool], end: float) -> None:
        """Wait until `condition` holds, at most until `end` (seconds of the loop's clock)."""
        clock = asyncio.get_running_loop().time
        async with self._changed:
            while not condition() and (left := end - clock()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), min(left, LOOK_SECONDS))

"""Runs an engine actor in this process, with coroutines as workers; holds its fixtures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from small_trials import ANYTHING_GOES, CLOCK_METRICS, SpecMaker, whole_run

from trainables.engine_log import FILE as ENGINE_LOG
from trainables.frozen.keeping_file import KEEPING_FILE
from trainables.lease import LEASE
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, TrialSpec
from trainables.workers.cohort_runner import CohortRunner, TrialGroup
from trainables.workers.engine_actor import EngineActor, EngineSettings
from trainables.workers.protocol import Report, Request, Rules
from trainables.workers.retries import TrialFailure

if TYPE_CHECKING:
    from trainables.engine import Engine


Solo = Callable[[Record], Record]

DRIFT = 1e-5  # of values near one, between two orders of the same fp32 sums


@dataclass
class WatchedRunner(CohortRunner):
    """Records which trials trained together, and calls a test's hook at the start of an interval."""

    intervals: list[set[str]] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    meanwhile: Callable[[int, Any], None] = lambda number, cohort: None

    def _interval(self, cohort: TrialGroup) -> frozenset[str]:
        self.intervals.append({trial.record.directory.name for trial in cohort.trials})
        self.began.append(time.monotonic())
        self.meanwhile(len(self.intervals), cohort)
        return super()._interval(cohort)


class WatchedEngine(EngineActor):
    """An engine actor with a WatchedRunner."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.watched = WatchedRunner(settings.threads, Path(settings.stop_file))
        self.runner = self.watched

    @property
    def intervals(self) -> list[set[str]]:
        return self.watched.intervals


class Failed(RuntimeError):
    """What an engine reports of a failed trial."""

    def __init__(self, failure: TrialFailure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass
class Room:
    """Makes records below `directory`, and workers that ask one engine to train them."""

    directory: Path
    engine: Engine
    baseline: Baseline
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def stop_file(self) -> Path:
        return self.directory / "stop"

    def actor(self, **settings: Any) -> WatchedEngine:
        import torch

        from trainables.workers.engine_cache import EngineCache

        values = {"admission_seconds": 0.3, "absence_seconds": 0.3, "stop_file": str(self.stop_file), "threads": 1}
        actor = WatchedEngine(EngineSettings(**(values | settings)))
        actor.runner.cache = EngineCache(self.engine)
        actor._thread.submit(torch.set_num_threads, 1)
        return actor

    def record(self, spec: TrialSpec) -> Record:
        record = Record(self.directory / spec.name)
        record.create(spec)
        return record

    def rules(self, record: Record) -> Rules:
        return Rules({record.spec().baseline().trial_id: self.baseline}, (), ANYTHING_GOES)

    def request(self, record: Record, peers: Sequence[Record] = (), worker: str = "only") -> Request:
        return Request(
            (str(record.directory),), self.rules(record), str(self.stop_file), cpus=0.01, gpus=0, engine="engine",
            peers=tuple(str(one.directory) for one in peers), worker=worker,
        )  # fmt: skip

    async def ask(
        self, actor: EngineActor, record: Record, peers: Sequence[Record] = (), worker: str = "only"
    ) -> Report:
        """Ask for one eval interval, as a worker's `step` does; a failure that the engine reports is raised."""
        report = await actor.advance(self.request(record, peers, worker))
        if report.failure is not None:
            raise Failed(report.failure)
        return report

    async def worker(self, actor: EngineActor, record: Record, peers: Sequence[Record] = ()) -> list[Report]:
        """Ask until the trial is done, and leave, as Ray Tune makes a worker do; returns all reports."""
        reports: list[Report] = []
        while not reports or not reports[-1].done:
            reports.append(await self.ask(actor, record, peers))
            assert len(reports) < 10
        await actor.leave(self.request(record, peers))
        return reports

    async def workers(self, actor: EngineActor, records: Sequence[Record]) -> list[list[Report]]:
        """Start a worker for every record at once; each expects all the others."""
        return await asyncio.gather(*(self.worker(actor, one, records) for one in records))


def verdict_in(report: Report) -> str | None:
    """Return the verdict in a report on one trial."""
    [trial] = report.trials
    return str(trial.verdict) if trial.verdict else None


def step_in(report: Report) -> int:
    """Return the step in a report on one trial."""
    [trial] = report.trials
    return trial.step


def run(actor: EngineActor, story: Any, seconds: float = 60.0) -> Any:
    """Run a coroutine to its end, then stop the engine; fails on a timeout."""

    async def call_in_loop() -> Any:
        try:
            return await asyncio.wait_for(story, seconds)
        finally:
            if actor._timer is not None:
                actor._timer.cancel()
            for task in actor._tasks:
                task.cancel()
            actor._thread.submit(actor.runner.close, False)  # the next test uses the same base
            await asyncio.get_running_loop().run_in_executor(None, actor._thread.shutdown)

    return asyncio.run(call_in_loop())


def measured(record: Record) -> list[tuple[str, int, dict[str, float]]]:
    """Return what a trial measured, without clocks."""
    return [
        (one.kind, one.step, {name: value for name, value in one.metrics.items() if name not in CLOCK_METRICS})
        for one in record.measurements()
    ]


def assert_alike(record: Record, reference: Record, drift: float = DRIFT) -> None:
    """Assert the same verdict, steps and files, and metrics equal up to the order of fp32 sums."""
    assert record.verdict() == reference.verdict()
    mine, theirs = measured(record), measured(reference)
    assert [one[:2] for one in mine] == [one[:2] for one in theirs]
    for (_, _, values), (_, _, expected) in zip(mine, theirs, strict=True):
        assert values == pytest.approx(expected, rel=drift, abs=drift)
    assert layout(record) == layout(reference)


def layout(record: Record) -> set[str]:
    """Return the files of a record, by their path inside it; of its checkpoints, the newest one's."""
    older = [record.checkpoint(step) for step in record.checkpoint_steps()[1:]]
    files = (path for path in record.directory.rglob("*") if path.is_file() and path.parent not in older)
    found = {str(path.relative_to(record.directory)) for path in files}
    return found - {ENGINE_LOG, LEASE, KEEPING_FILE}  # a trial alone has no engine that claims it, or decides


# ---------------------------------------------------------------- fixtures, to be imported where they are used
@pytest.fixture(name="room")
def room_fixture(tmp_path: Path, engine: Engine, baseline: Baseline) -> Room:
    return Room(tmp_path, engine, baseline)


@pytest.fixture(scope="module", name="shared_room")
def shared_room_fixture(tmp_path_factory: pytest.TempPathFactory, engine: Engine, baseline: Baseline) -> Room:
    return Room(tmp_path_factory.mktemp("alone"), engine, baseline)


@pytest.fixture(scope="module", name="solo")
def solo_fixture(shared_room: Room) -> Solo:
    """Return the record of the same spec trained alone without disturbance; each spec is run once."""

    def alone(record: Record) -> Record:
        spec = record.spec()
        directory = shared_room.directory / spec.trial_id
        if not (directory / "verdict.json").exists():
            whole_run(shared_room.engine, spec, directory, shared_room.baseline, constraint=ANYTHING_GOES)
        return Record(directory)

    return alone


@pytest.fixture(name="trial")
def trial_fixture(make_spec: SpecMaker) -> Callable[..., TrialSpec]:
    """Make a spec of two steps with an eval after each; `number` sets its language layers and its name."""

    def spec(number: int, **changes: Any) -> TrialSpec:
        values = {"placement": Placement(language=number), "steps": 2, "eval_every_steps": 1, "batch_rows": 2}
        return make_spec(name=f"trial-{number}", **(values | changes))

    return spec


@pytest.fixture(name="three")
def three_fixture(room: Room, trial: Callable[..., TrialSpec]) -> list[Record]:
    return [room.record(trial(number)) for number in (1, 2, 3)]

"""Launches under faults in any order, on the real experiments, leases, claims, records and tracker.

Two machines launch one experiment with three trials; neither sees the processes of the other. Processes are killed at
any of their durable writes, the storage fails, MLflow is away, checkpoints are damaged, clocks jump. After every rule:

- I1: every planned trial has one record, and its verdict, once it has a result, never changes.
- I2: what was reported stays readable. I3: no line is there twice.
- I4: only completed trials are FINISHED in MLflow. I5: a trial loses at most one eval interval of work.
- I6: a launch that was taken over is asked to stop, and one that ended holds nothing.
- I7: MLflow can be deleted and is rebuilt equal.

I8, that a deterministic failure is not retried for ever, is not among them: the retries are Ray Tune's.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from fake_store import FakeStore
from fake_world import (
    EVAL_EVERY,
    THREADS,
    Broken,
    FakeTrial,
    Heart,
    Killed,
    Running,
    World,
    metrics,
    planned,
    verdict_at,
    weights,
)  # fmt: skip
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sweeps.cli.main import exit_code
from sweeps.execution import lease_holder
from sweeps.execution.experiment import Experiment, reopened
from sweeps.execution.lease_holder import AlreadyRunning
from sweeps.tracking import mirror
from sweeps.tracking.mirror import Mirror
from sweeps.tracking.sync import sync_all
from sweeps.tracking.tracker import Tracker
from trainables.attempt import claim
from trainables.lease import MISSED_HEARTBEATS, Owner, Superseded, read_lease
from trainables.record import Record
from trainables.record_check import check_record
from trainables.spec import FORMAT
from trainables.verdict import Verdict

LOST_SECONDS = MISSED_HEARTBEATS * lease_holder.HEARTBEAT_SECONDS
HOSTS, NAMES = st.sampled_from("AB"), st.sampled_from(("whole", "pruned", "broken"))
FAULTS = st.one_of(st.none(), st.tuples(st.integers(0, 40), st.booleans()))
LAUNCHES = st.integers(0, 3)


class Launches(RuleBasedStateMachine):
    """Launches of one experiment, and their faults."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.world, self.store, self.patch = World(), FakeStore(), pytest.MonkeyPatch()
        self.world.install(self.patch)
        self.store.install(self.patch)
        self.patch.setattr(lease_holder, "_Heart", Heart)
        for module in (lease_holder, mirror):
            self.patch.setattr(module, "threading", THREADS)
        self.specs = planned(self.root)
        self.directory = self.root / "study"
        self.launches: list[Running] = []
        self.killed: list[ExitStack] = []  # kept, or their blocks would end as if nothing had happened
        self.reported: set[tuple[str, int]] = set()
        self.results: dict[str, Verdict] = {}
        self.trained: dict[str, int] = {}
        self.damaged: set[str] = set()

    def teardown(self) -> None:
        for one in self.launches:
            one.heart.is_killed = True
            one.stack.close()
        for stack in self.killed:
            stack.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    # ---------------------------------------------------------------- launching
    @rule(host=HOSTS, steal=st.booleans(), fault=FAULTS)
    def launch(self, host: str, steal: bool, fault: tuple[int, bool] | None) -> None:
        """Plan and begin, or resume; the driver may be killed at any write."""
        driver = self.world.running = self.world.process(host)
        may = steal or self._is_free(driver)
        stack = ExitStack()
        Heart.newest = None
        try:
            with self.world.failing(fault[0] if fault else None, Killed()):
                experiment = stack.enter_context(Experiment(self.directory).held(steal))
                assert may, "another launch holds the experiment"
                self.world.beaten = self.world.now
                experiment.configure({"format": FORMAT})
                records = experiment.begin(self.specs)
                reopened(records)
        except AlreadyRunning:
            assert not may, "nobody holds the experiment"
        except Killed:
            self.world.dead.add(driver.pid)
            if read_lease(self.directory).owner == driver:
                self.world.beaten = self.world.now
            if Heart.newest is not None:
                Heart.newest.is_killed = True
            self.killed.append(stack)
        else:
            copies = Mirror(Tracker("sqlite:///fake.db", "study"), "command", {})
            engine = self.world.process(host)
            self.launches.append(Running(experiment, driver, engine, stack, Heart.newest, copies))
            for record in records:
                copies.submit(record)

    def _is_free(self, driver: Owner) -> bool:
        owner = read_lease(self.directory).owner if self.directory.exists() else None
        if owner is None:
            return True
        if owner.machine == driver.machine:
            return owner.pid in self.world.dead
        return self.world.now - self.world.beaten >= LOST_SECONDS

    def _chosen(self, number: int) -> Running:
        return self.launches[number % len(self.launches)]

    def _has_driver(self, one: Running) -> bool:
        return one.driver.pid not in self.world.dead

    # ---------------------------------------------------------------- training
    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES, name=NAMES, fault=FAULTS)
    def advance(self, number: int, name: str, fault: tuple[int, bool] | None) -> None:
        """Open a trial if it is not open, train it to its next eval, and report; with a fault on the way."""
        one = self._chosen(number)
        home = one.experiment.record_of(self._spec(name)).home
        self.world.running = one.engine
        error: BaseException = Killed() if fault and fault[1] else OSError(errno.ENOSPC, "No space left on device")
        try:
            with self.world.failing(fault[0] if fault else None, error):
                self._train_to_eval(one, name, home)
        except Killed:
            self._engine_dies(one)
        except (OSError, Broken):
            one.open.clear()  # the error of one ends the cohort
        except Superseded:
            assert read_lease(self.directory).epoch > one.experiment.launch, "nobody took over"
            one.open.pop(name, None)

    def _train_to_eval(self, one: Running, name: str, home: Path) -> None:
        trial = one.open.get(name) or self._opened(one, name, home)
        if trial is None:
            return
        boundary = (trial.step // EVAL_EVERY + 1) * EVAL_EVERY
        while trial.step < boundary and verdict_at(name, trial.step) is None:
            trial.train()
            self.trained[name] = max(self.trained.get(name, 0), trial.step)
        verdict = trial.evaluate()
        if trial.record.directory == Record(home).directory:
            self.reported.add((name, trial.step))
            one.mirror.submit(Record(home))
        if verdict is not None:
            del one.open[name]

    def _opened(self, one: Running, name: str, home: Path) -> FakeTrial | None:
        trial = FakeTrial.opened(self.world, home, one.experiment.launch, one.engine)
        if trial is not None:
            one.open[name] = trial
            lost = self.trained.get(name, 0) - trial.step
            most = EVAL_EVERY * (3 if name in self.damaged else 1)
            assert lost <= most, f"I5: {name} lost {lost} steps"
            self.damaged.discard(name)
            self.trained[name] = trial.step
            assert trial.state == weights(name, trial.step)
            verdict = verdict_at(name, trial.step) if trial.record.evals() else None
            if verdict is not None:  # the process was killed before it wrote the verdict of its last eval
                trial.record.close(verdict)
                del one.open[name]
                return None
        return trial

    def _spec(self, name: str) -> Any:
        return next(spec for spec in self.specs if spec.name == name)

    # ---------------------------------------------------------------- ending
    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES)
    def finish(self, number: int) -> None:
        """Train all trials to their end, and end the launch in order."""
        one = self._chosen(number)
        if self._is_superseded(one) or not self._has_driver(one):
            return
        for spec in self.specs:
            home = one.experiment.record_of(spec).home
            while Record(home).verdict() is None:
                self.world.running = one.engine
                try:
                    self._train_to_eval(one, spec.name, home)
                except Broken as error:
                    one.open.clear()
                    self.world.running = one.driver
                    failed = Verdict(kind="failed", step=0, cause="Broken", reason=str(error))
                    claim(Record(home), one.experiment.launch, self.world.has_ended, one.driver).close(failed)
        records = one.experiment.records()
        kinds = sorted(str(verdict) for record in records if (verdict := record.verdict()))
        assert kinds == ["completed", "failed(Broken)", "pruned(a guard)"], "I1: one terminal state each"
        assert exit_code(records) == 3
        self._end(one)

    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES)
    def stop(self, number: int) -> None:
        """Ctrl-C: every trial checkpoints where it is."""
        one = self._chosen(number)
        if not self._has_driver(one):
            return
        self.world.running = one.engine
        for trial in list(one.open.values()):
            with suppress(Superseded):
                if trial.step % EVAL_EVERY:
                    trial.checkpoint()
        self._end(one)

    def _end(self, one: Running) -> None:
        self.launches.remove(one)
        self.world.running = one.driver
        superseded = self._is_superseded(one)
        self._mirror(one)
        one.mirror._succeeds(one.mirror._tracker.close_launch, "FINISHED")
        self.world.dead |= {one.driver.pid, one.engine.pid}
        try:
            one.stack.close()
        except AlreadyRunning:
            assert superseded, "nobody took over"
        else:
            assert not superseded, "a launch that was taken over must say so"
            assert read_lease(self.directory).owner is None, "I6: a launch that ended gives its lease back"
            assert not one.experiment.stop_file.exists()

    def _is_superseded(self, one: Running) -> bool:
        return read_lease(self.directory).epoch != one.experiment.launch

    # ---------------------------------------------------------------- faults
    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES, with_engine=st.booleans())
    def kill_driver(self, number: int, with_engine: bool) -> None:
        """Kill -9 of the driver; its engine ends with it, or trains on for a while."""
        one = self._chosen(number)
        self.world.dead.add(one.driver.pid)
        one.heart.is_killed = True
        self.killed.append(one.stack)
        if with_engine:
            self.launches.remove(one)
            self.world.dead.add(one.engine.pid)

    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES)
    def kill_engine(self, number: int) -> None:
        one = self._chosen(number)
        self._engine_dies(one)

    def _engine_dies(self, one: Running) -> None:
        self.world.dead.add(one.engine.pid)
        one.open.clear()
        one.engine = self.world.process(one.engine.host)  # Ray restarts it

    @rule(seconds=st.sampled_from((5.0, 40.0, -3600.0, 86400.0)))
    def time_passes(self, seconds: float) -> None:
        """Pause all launches: none beats meanwhile; the clock may jump."""
        self.world.now += seconds

    @rule()
    def hearts_beat(self) -> None:
        for one in self.launches:
            if self._has_driver(one):
                self.world.running = one.driver
                one.heart.beat()
                if self._is_superseded(one):
                    assert one.experiment.stop_file.exists(), "I6: it must stop its trials"
                else:
                    self.world.beaten = self.world.now

    @rule(name=NAMES, torn=st.booleans())
    def damage(self, name: str, torn: bool) -> None:
        """Cut the newest checkpoint of a trial, or leave the last line of its measurements incomplete."""
        if any(name in one.open for one in self.launches) or not self.directory.exists():
            return
        record = Experiment(self.directory).record_of(self._spec(name))
        if not record.exists() or record.verdict() is not None:
            return
        if torn:
            with (record.directory / "metrics.jsonl").open("a") as file:
                file.write('{"torn')
        elif name not in self.damaged and record.checkpoint_steps():
            path = record.checkpoint(record.checkpoint_steps()[0]) / "progress.json"
            path.write_text(path.read_text()[:-4])
            self.damaged.add(name)

    # what single rules meet too seldom
    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES, name=NAMES)
    def crash(self, number: int, name: str) -> None:
        """An engine dies and leaves the newest checkpoint of a trial cut; the trial is opened again."""
        self.kill_engine(number)
        self.damage(name, torn=False)
        self.advance(number, name, None)

    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES, host=HOSTS, name=NAMES)
    def take_over(self, number: int, host: str, name: str) -> None:
        """A launch does not beat for long and another begins; both train on."""
        late = self._chosen(number)
        self.time_passes(LOST_SECONDS)
        self.launch(host, steal=False, fault=None)
        self.advance(len(self.launches) - 1, name, None)
        self.advance(self.launches.index(late), name, None)

    # ---------------------------------------------------------------- MLflow
    @rule(down=st.booleans())
    def outage(self, down: bool) -> None:
        self.store.is_down = down

    @precondition(lambda self: self.launches)
    @rule(number=LAUNCHES)
    def copy(self, number: int) -> None:
        one = self._chosen(number)
        if self._has_driver(one):
            self._mirror(one)

    def _mirror(self, one: Running) -> None:
        if one.mirror._succeeds(one.mirror._open_launch):
            one.mirror._write_waiting()

    @precondition(lambda self: not self.store.is_down and (self.directory / "study.json").exists())
    @rule()
    def rebuild(self) -> None:
        """I7: delete MLflow, and copy the records again."""
        if not Experiment(self.directory).records():
            return
        self._sync_all()
        before = self._ended()
        self.store.runs.clear()
        self.store.points.clear()
        for one in self.launches:
            one.mirror._tracker._launch_id = None
        self._sync_all()
        assert self._ended() == before

    def _sync_all(self) -> None:
        sync_all(self.directory, "sqlite:///fake.db", "study")

    def _ended(self) -> dict[str, Any]:
        return {name: shown for name, shown in self.store.shown().items() if "verdict" in shown["tags"]}

    # ---------------------------------------------------------------- what must hold
    @invariant()
    def records_are_whole_and_results_stay(self) -> None:
        if not (self.directory / "trials.json").exists():
            return
        experiment = Experiment(self.directory)
        records = {record.spec().name: record for record in experiment.records()}
        missing, named = [spec for spec in self.specs if spec.name not in records], experiment.lost_trials()
        assert all(spec.placement.is_baseline or f"{spec.name}-{spec.trial_id}" in named for spec in missing), "I1"
        for name, record in records.items():
            check_record(record)
            self._holds(name, record)
        for name, step in self.reported:
            assert step in [one.step for one in records[name].evals()], f"I2: the eval of {name} @ {step} is lost"

    def _holds(self, name: str, record: Record) -> None:
        verdict = record.verdict()
        if name in self.results:
            assert verdict == self.results[name], f"I1: {name} had {self.results[name]}, but now {verdict}"
        if verdict is not None and verdict.kind != "failed":
            assert verdict == verdict_at(name, verdict.step), "I4"
            self.results[name] = verdict
        for one in record.evals():
            assert dict(one.metrics) == metrics(name, one.step)
        for path in record.directory.glob("adapters/step-*/adapter"):
            assert path.read_text() == weights(name, int(path.parent.name.removeprefix("step-")))
        raw = (record.directory / "metrics.jsonl").read_bytes() if record.measurements() else b""
        lines = [(one["kind"], one["step"]) for one in map(json.loads, raw.split(b"\n")[:-1])]
        assert len(lines) == len(set(lines)), f"I3: {name} has a line twice: {lines}"

    @invariant()
    def mlflow_shows_only_completed_trials_as_finished(self) -> None:
        for name, shown in self.store.shown().items():
            assert (shown["status"] != "FINISHED") or shown["tags"].get("verdict") == "completed", f"I4: {name}"

"""Runs workers under real Ray Tune: both backends keep one contract; workers and engines are killed or stopped."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine_room import assert_alike, layout
from small_trials import ANYTHING_GOES, SpecMaker

from sweeps.execution.schedulers import Asha, Scheduler
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, TrialSpec
from trainables.workers.protocol import Rules

RETRIES = 2


@pytest.fixture(scope="module")
def resources() -> Iterator[Any]:
    os.environ |= {
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_SIGINT_HANDLER": "1",
    }  # fmt: skip
    import ray

    from sweeps.execution.ray_session import _resources

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield _resources()
    ray.shutdown()


@pytest.fixture(scope="module")
def specs(make_spec: SpecMaker) -> list[TrialSpec]:
    """Two specs that share, one with another rank that also adapts vision, one that cannot share, and one invalid."""
    make = partial(make_spec, steps=2, eval_every_steps=1, batch_rows=2)
    return [
        make(name="shallow", placement=Placement(language=1)),
        make(name="deep", placement=Placement(language=3), rank=8, rslora=True, seed=1),
        make(name="both", placement=Placement(language=1, vision=1), learning_rate=1e-3, dropout=0.0),
        make(name="apart", placement=Placement(language=1), data_seed=1),
        make(name="bad", placement=Placement(language=9)),
    ]


@dataclass
class Listener:
    """Counts its calls, and calls a hook once, at the first eval."""

    at_first_eval: Callable[[], None] = lambda: None
    advanced_count: int = 0
    started_names: list[str] = field(default_factory=list)
    retries: list[tuple[list[str], str]] = field(default_factory=list)
    engines: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def retried(self, records: Sequence[Record], reason: str) -> None:
        self.retries.append((sorted(record.name for record in records), reason))

    def started(self, record: Record) -> None:
        self.started_names.append(record.name)

    def assigned(self, record: Record, engine: str) -> None:
        self.engines[record.name] = engine

    def noted(self, text: str) -> None:
        self.notes.append(text)

    def advanced(self, record: Record) -> None:
        self.advanced_count += 1
        if self.advanced_count == 1:
            self.at_first_eval()


@dataclass(frozen=True)
class Runs:
    """Runs specs below `root` through `run_trials`; returns their records by name."""

    root: Path
    resources: Any
    baseline: Baseline

    def run(
        self,
        name: str,
        specs: list[TrialSpec],
        alone: bool,
        listener: Listener | None = None,
        scheduler: Scheduler | None = None,
        *,
        most_seats: int = 24,
        own_seats: bool = False,
        before: Callable[[dict[str, Record]], None] = lambda records: None,
    ) -> dict[str, Record]:
        from sweeps.execution.fleet import engines
        from sweeps.execution.tuner import TuneSettings, run_trials

        directory = self.root / name
        records = {spec.name: Record(directory / spec.name) for spec in specs}
        for spec in specs:
            records[spec.name].create(spec)
        before(records)
        rules = Rules({specs[0].baseline().trial_id: self.baseline}, (), ANYTHING_GOES)
        stop_file = directory / "stop"
        with nullcontext() if alone else engines(self.resources, 1, stop_file, None) as fleet:
            settings = TuneSettings(rules, self.resources, stop_file, RETRIES, fleet=fleet, scheduler=scheduler,
                                    most_seats=most_seats, own_seats=own_seats)  # fmt: skip
            run_trials(list(records.values()), settings, listener or Listener())
        return records


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, resources: Any, baseline: Baseline) -> Runs:
    return Runs(tmp_path_factory.mktemp("workers"), resources, baseline)


@pytest.fixture(scope="module")
def together(runs: Runs, specs: list[TrialSpec]) -> dict[str, Record]:
    return runs.run("together", specs, alone=False)


@pytest.fixture(scope="module")
def alone(runs: Runs, specs: list[TrialSpec]) -> dict[str, Record]:
    return runs.run("alone", specs, alone=True)


def processes(name: str) -> list[psutil.Process]:
    """Return this test's processes of an actor class, by the title Ray gives them."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if one.is_running() and one.name().startswith(f"ray::{name}"[:15])]


# ---------------------------------------------------------------- one contract
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["together", "alone"])
def test_both_backends_keep_the_contract(backend: str, request: pytest.FixtureRequest) -> None:
    records: dict[str, Record] = request.getfixturevalue(backend)
    assert {name: str(record.verdict()) for name, record in records.items()} == {
        "shallow": "completed", "deep": "completed", "both": "completed", "apart": "completed",
        "bad": "infeasible(input)",
    }  # fmt: skip
    assert layout(records["bad"]) - {".phase.json"} == {"spec.json", "verdict.json", "manifest.json", "lock"}
    for record in (record for name, record in records.items() if name != "bad"):
        assert [one.step for one in record.evals()] == [1, 2]
        assert record.checkpoint_steps() == [2, 1]
        assert {path.name for path in record.checkpoint(2).iterdir()} == {
            "adapter_config.json", "adapter_model.safetensors", "manifest.json",
            "optimizer.safetensors", "progress.json", "vitals.json",
        }  # fmt: skip


@pytest.mark.slow
def test_a_trial_with_peers_equals_the_trial_alone(together: dict[str, Record], alone: dict[str, Record]) -> None:
    for name, record in together.items():
        assert_alike(record, alone[name])


@pytest.mark.slow
def test_no_engine_and_no_worker_outlives_its_launch(together: dict[str, Record]) -> None:
    deadline = time.monotonic() + 20.0
    while processes("EngineActor") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes("EngineActor") == []


# ---------------------------------------------------------------- killed and stopped
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["TrialWorker", "EngineActor"])
def test_a_killed_worker_is_retried_and_every_trial_ends_as_if_undisturbed(
    victim: str, runs: Runs, specs: list[TrialSpec], together: dict[str, Record]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        for process in processes(victim)[:1]:
            killed.append(process.pid)
            process.kill()

    listener = Listener(kill)
    records = runs.run(f"killed-{victim}", specs[:3], False, listener)
    assert len(killed) == 1
    retried = {name for names, _ in listener.retries for name in names}
    assert retried == ({"shallow", "deep", "both"} if victim == "EngineActor" else retried & records.keys())
    assert retried
    assert all("actor" in reason.lower() for _, reason in listener.retries), listener.retries
    for name, record in records.items():
        assert_alike(record, together[name])


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_an_arm_that_always_fails_ends_alone_and_its_cohort_goes_on(
    alone: bool, runs: Runs, specs: list[TrialSpec], together: dict[str, Record]
) -> None:
    def plant(records: dict[str, Record]) -> None:
        (records["deep"].directory / "adapters").touch()  # the directory of its first eval cannot be made

    listener = Listener()
    records = runs.run(f"poison-{alone}", specs[:3], alone, listener, before=plant)
    poisoned = records.pop("deep")
    verdict = poisoned.verdict()
    assert verdict is not None and str(verdict) == "failed(NotADirectoryError)", verdict
    assert (verdict.reason or "").startswith("failed twice alike: NotADirectoryError: [Errno 20]")
    tracebacks = [path.read_text() for path in poisoned.home.glob("failure-*.txt")]
    assert len(tracebacks) == 2 and all("NotADirectoryError" in text for text in tracebacks)
    assert sum("deep" in names for names, _ in listener.retries) == (1 if alone else 2), "once more, and once together"
    for name, record in records.items():
        assert_alike(record, together[name])


@pytest.mark.slow
def test_an_engine_that_hangs_is_ended_and_started_again_and_no_trial_is_blamed(
    runs: Runs, specs: list[TrialSpec], together: dict[str, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.workers.engine_actor import EngineActor, EngineSettings
    from trainables.workers.watchdog import Limits

    class HangsOnce(EngineActor):
        def __init__(self, settings: EngineSettings) -> None:
            super().__init__(settings)
            advance, hung = self.runner.advance, Path(settings.stop_file).with_name("hung")

            def advance_or_hang(leave: tuple[str, ...]) -> Any:
                if hung.exists():
                    return advance(leave)
                hung.touch()
                assert self.runner.cohort is not None
                with self.runner.watchdog.watching(self.runner.cohort.trials[0].record.home):
                    while True:  # as a kernel that never returns
                        pass

            self.runner.advance = advance_or_hang

    impatient = partial(EngineSettings, limits=Limits(unknown_seconds=15.0))
    monkeypatch.setattr("sweeps.execution.fleet.EngineActor", HangsOnce)
    monkeypatch.setattr("sweeps.execution.fleet.EngineSettings", impatient)
    listener = Listener()
    records = runs.run("hung", specs[:3], False, listener)
    [(names, reason)] = [one for one in listener.retries if "no step within the limit" in one[1]]
    assert names == ["both", "deep", "shallow"]
    [stacks] = [path for record in records.values() for path in record.home.glob("stacks-*.txt")]
    assert str(stacks) in reason and "advance_or_hang" in stacks.read_text()
    for name, record in records.items():
        stacks.unlink(missing_ok=True)
        assert_alike(record, together[name])


@pytest.mark.slow
def test_more_trials_than_workers_train_one_group_after_another(
    runs: Runs, specs: list[TrialSpec], together: dict[str, Record]
) -> None:
    counted: list[int] = []
    listener = Listener(lambda: counted.append(len(processes("TrialWorker"))))
    records = runs.run("seats", specs[:3], False, listener, most_seats=2)
    assert counted and counted[0] <= 2
    for name, record in records.items():
        assert_alike(record, together[name])


@pytest.mark.slow
def test_a_trial_stopped_by_a_scheduler_delays_no_other(
    runs: Runs, specs: list[TrialSpec], together: dict[str, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler

    from trainables.workers.engine_actor import EngineSettings

    class StopsOne(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return self.STOP if result["report"].trials[0].record.endswith("deep") else self.CONTINUE

    monkeypatch.setattr("sweeps.execution.tuner.tune.TuneConfig", partial(tune.TuneConfig, scheduler=StopsOne()))
    patient = partial(EngineSettings, absence_seconds=1000.0)
    monkeypatch.setattr("sweeps.execution.fleet.EngineSettings", patient)
    records = runs.run("stopped", specs[:3], alone=False, own_seats=True)
    stopped = records.pop("deep")
    assert (str(stopped.verdict()), stopped.checkpoint_steps()) == ("failed(NoResult)", [1])
    for name, record in records.items():
        assert_alike(record, together[name])


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_asha_stops_the_trial_that_learns_nothing(alone: bool, runs: Runs, make_spec: SpecMaker) -> None:
    make = partial(make_spec, steps=4, eval_every_steps=1, batch_rows=2, placement=Placement(language=2))
    good = [make(name=f"good-{seed}", seed=seed, learning_rate=5e-3, warmup_ratio=0.0) for seed in range(3)]
    idle = make(name="idle", learning_rate=1e-6, warmup_ratio=0.0)
    scheduler = Asha(grace_period=1, reduction_factor=2.0)
    listener = Listener()
    records = runs.run(f"asha-{alone}", [*good, idle], alone, listener, scheduler)
    verdict = records["idle"].verdict()
    assert verdict is not None and str(verdict) == "pruned(scheduler)"
    assert verdict.step == records["idle"].evals()[-1].step < 4
    assert verdict.reason is not None and verdict.reason.startswith("asha stopped it: eval_loss ")
    assert all(record.verdict() is not None for record in records.values())
    assert "completed" in {str(records[one.name].verdict()) for one in good}


# ---------------------------------------------------------------- light
def test_worker_engine_and_driver_are_imported_without_torch() -> None:
    modules = "trainables.workers.trainable, trainables.workers.engine_actor, sweeps.execution.tuner"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    planted = code.replace("sweeps.execution.tuner", "torch")
    assert subprocess.run([sys.executable, "-c", planted], check=False).returncode == 1

"""Tests the in-process backend: reused in real Ray processes, and in this process for every way to end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_room import step_in, verdict_in
from small_trials import SpecMaker, assert_same_outcome

from trainables.constraint import BestConstraint
from trainables.frozen.keeping_file import read_keeping
from trainables.frozen.worth import ALONE
from trainables.lease import Lease, read_lease
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.workers.protocol import PROTOCOL_VERSION, ProtocolMismatch, Report, Request, Rules

Configure = Callable[[TrialSpec], dict[str, Any]]


@pytest.fixture
def configure(tmp_path: Path, make_spec: SpecMaker, baseline: Baseline) -> Configure:
    """Make a worker's config for a spec; a trial's record lies below `tmp_path` by its name."""

    def config(spec: TrialSpec) -> dict[str, Any]:
        record = Record(tmp_path / spec.name)
        record.create(spec)
        rules = Rules({spec.baseline().trial_id: baseline}, (), BestConstraint(1.0, 1.0))
        return {"request": Request((str(record.directory),), rules, str(tmp_path / "stop"), cpus=1, gpus=0)}

    return config


# ---------------------------------------------------------------- real Ray
@pytest.fixture(scope="module")
def ray_session() -> Iterator[Any]:
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield ray
    ray.shutdown()


def actor_of(ray: Any, config: dict[str, Any]) -> Any:
    """Start a worker in a process of its own; the class is local, so Ray sends it by value."""
    from trainables.workers.trainable import TrialWorker

    class WatchedWorker(TrialWorker):
        def engine_identity(self) -> int:
            return id(self._backend.cache.engine)

        def lora_left(self) -> list[str]:
            assert self._backend.cache.engine is not None
            return [name for name, _ in self._backend.cache.engine.base.model.named_parameters() if "lora_" in name]

    return ray.remote(num_cpus=0)(WatchedWorker).remote(config=config)


def run_to_end(ray: Any, worker: Any) -> list[Report]:
    results: list[dict[str, Any]] = []
    while not results or not results[-1]["done"]:
        results.append(ray.get(worker.train.remote()))
        assert len(results) < 10
    return [result["report"] for result in results]


@pytest.mark.slow
def test_a_reused_worker_equals_a_fresh_process_and_loads_the_base_once(
    ray_session: Any, configure: Configure, make_spec: SpecMaker, tmp_path: Path
) -> None:
    ray = ray_session
    first = make_spec(name="first", placement=Placement(language=3), rank=8, steps=2)
    values = make_spec(seed=2)
    reused = actor_of(ray, configure(first))
    fresh = actor_of(ray, configure(values.model_copy(update={"name": "fresh"})))

    reports = run_to_end(ray, reused)
    assert [(step_in(one), verdict_in(one), one.done) for one in reports] == [(2, "completed", True)]
    engine = ray.get(reused.engine_identity.remote())
    assert ray.get(reused.lora_left.remote()) == []
    assert ray.get(reused.reset.remote(configure(values.model_copy(update={"name": "reused"}))))
    reports = run_to_end(ray, reused)
    assert [(step_in(one), one.done) for one in reports] == [(2, False), (4, True)]
    assert ray.get(reused.engine_identity.remote()) == engine

    run_to_end(ray, fresh)
    assert ray.get(fresh.engine_identity.remote()) != engine
    assert_same_outcome(Record(tmp_path / "reused"), Record(tmp_path / "fresh"))

    # a stop file leads to a checkpoint and an early end, and the trial goes on where it stood
    config = configure(values.model_copy(update={"name": "stopped"}))
    assert ray.get(fresh.reset.remote(config))
    assert not ray.get(fresh.train.remote())["done"]
    Path(config["request"].stop_file).touch()
    result = ray.get(fresh.train.remote())
    assert (result["done"], verdict_in(result["report"])) == (True, None)
    stopped = Record(tmp_path / "stopped")
    assert stopped.verdict() is None
    assert stopped.checkpoint_steps()[0] == 2
    Path(config["request"].stop_file).unlink()
    assert ray.get(fresh.reset.remote(config))
    run_to_end(ray, fresh)
    assert_same_outcome(stopped, Record(tmp_path / "fresh"))


# ---------------------------------------------------------------- every end, in this process
def trained(worker: Any) -> Report:
    """Make one step; returns the report in its result."""
    return worker.train()["report"]


@pytest.fixture(scope="module")
def worker_of() -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Give a config to the one worker of this file, by a reset as Ray does; it keeps its base and its self-tests."""
    from trainables.workers.trainable import TrialWorker

    workers: list[TrialWorker] = []

    def start(config: dict[str, Any]) -> Any:
        if workers:
            assert workers[0].reset(config)
        else:
            workers.append(TrialWorker(config=config))
        return workers[0]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def new_worker_of() -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Start a worker of its own for a config."""
    from trainables.workers.trainable import TrialWorker

    workers: list[TrialWorker] = []

    def start(config: dict[str, Any]) -> Any:
        workers.append(TrialWorker(config=config))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


def broken_base(tmp_path: Path) -> Source:
    (tmp_path / "base").mkdir()
    return Source(path=tmp_path / "base", sha256="broken")


def broken_rows(tmp_path: Path) -> Source:
    (tmp_path / "rows.jsonl").write_text("{\n")
    return Source(path=tmp_path / "rows.jsonl", sha256="broken")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (lambda _: {"placement": Placement(language=9)}, "asks for the last 9 of 8 language layers"),
        (lambda path: {"base": broken_base(path)}, "has no config.json"),
        (lambda path: {"train": broken_rows(path)}, "rows.jsonl:1: a row must be one JSON object"),
        (lambda path: {"init_from": Source(path=path, sha256="none")}, "an adapter directory must hold"),
    ],
)
def test_bad_input_makes_the_trial_infeasible_and_the_worker_usable(
    changes: Callable[[Path], dict],
    expected: str,
    configure: Configure,
    make_spec: SpecMaker,
    worker_of: Callable[[dict[str, Any]], Any],
    tmp_path: Path,
) -> None:
    worker = worker_of(configure(make_spec(name="bad", **changes(tmp_path))))
    report = trained(worker)
    assert (verdict_in(report), report.done, step_in(report)) == ("infeasible(input)", True, 0)
    verdict = Record(tmp_path / "bad").verdict()
    assert verdict is not None and expected in (verdict.reason or "")
    assert worker.reset(configure(make_spec(name="good", placement=Placement())))  # an eval starts no other process
    assert verdict_in(trained(worker)) == "completed"


def test_a_row_too_long_says_at_which_step(
    configure: Configure, make_spec: SpecMaker, worker_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    spec = make_spec(name="long", eval_every_steps=1, batch_rows=1)
    worker = worker_of(configure(spec))
    assert step_in(trained(worker)) == 1
    worker._backend._trial.spec = spec.model_copy(update={"max_tokens": 8})
    assert verdict_in(trained(worker)) == "infeasible(input)"
    verdict = Record(tmp_path / "long").verdict()
    assert verdict is not None
    assert (verdict.step, "must fit max_tokens = 8" in (verdict.reason or "")) == (1, True)


@pytest.mark.parametrize("where", ["trainables.training.trial.Trial.advance", "trainables.engine.Engine.load"])
def test_no_memory_makes_the_trial_infeasible(
    where: str,
    configure: Configure,
    make_spec: SpecMaker,
    new_worker_of: Callable[[dict[str, Any]], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import torch

    import trainables.training.trial  # noqa: F401 so that the method can be replaced by name

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore lines")

    monkeypatch.setattr(where, full)
    assert verdict_in(trained(new_worker_of(configure(make_spec(name="big"))))) == "infeasible(memory)"
    verdict = Record(tmp_path / "big").verdict()
    assert verdict is not None and verdict.reason == "CUDA out of memory. Tried to allocate 2 GiB"


def test_a_misplaced_adapter_is_invalid_before_the_first_step(
    configure: Configure,
    make_spec: SpecMaker,
    worker_of: Callable[[dict[str, Any]], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import peft

    import trainables.training.trial  # noqa: F401 torch is imported before it is patched below it

    with monkeypatch.context() as patched:
        patched.setattr(
            "trainables.model.lora.LoraConfig",
            lambda **values: peft.LoraConfig(**values | {"target_modules": values["target_modules"][1:]}),
        )
        worker = worker_of(configure(make_spec(name="misplaced")))
        assert verdict_in(trained(worker)) == "invalid(placement)"
    fewer = Placement(language=1)  # so that a leftover of the first placement would be one module too many
    assert worker.reset(configure(make_spec(name="next", placement=fewer, steps=1, batch_rows=1)))
    assert verdict_in(trained(worker)) == "completed"


def test_a_finished_trial_is_not_run_again(
    configure: Configure, make_spec: SpecMaker, worker_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    config = configure(make_spec(name="once", steps=1, batch_rows=1))
    worker = worker_of(config)
    worker.train()
    before = (tmp_path / "once" / "metrics.jsonl").read_bytes()
    assert worker.reset(config)
    assert trained(worker).done
    assert (tmp_path / "once" / "metrics.jsonl").read_bytes() == before


def test_a_worker_that_is_replaced_before_its_first_step_claims_nothing(
    new_worker_of: Callable[[dict[str, Any]], Any], configure: Configure, make_spec: SpecMaker, tmp_path: Path
) -> None:
    new_worker_of(configure(make_spec(name="replaced")))
    assert read_lease(tmp_path / "replaced") == Lease()


def test_a_worker_that_starts_under_a_stop_file_does_nothing(
    configure: Configure, make_spec: SpecMaker, worker_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    (tmp_path / "stop").touch()
    report = trained(worker_of(configure(make_spec(name="late"))))
    assert (report.done, verdict_in(report)) == (True, None)
    assert {path.name for path in (tmp_path / "late").iterdir()} == {"spec.json"}


# ---------------------------------------------------------------- requests
def test_the_trials_of_a_request_train_one_after_another(
    configure: Configure, make_spec: SpecMaker, worker_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    specs = [
        make_spec(name="first", placement=Placement(language=1), steps=2, eval_every_steps=1, batch_rows=1),
        make_spec(name="bad", placement=Placement(language=9)),
        make_spec(name="last", placement=Placement(vision=1), steps=1, batch_rows=1),
    ]
    requests = [configure(spec)["request"] for spec in specs]
    baselines = {key: value for one in requests for key, value in one.rules.baselines.items()}
    together = replace(
        requests[0],
        trials=tuple(trial for one in requests for trial in one.trials),
        rules=replace(requests[0].rules, baselines=baselines),
        scheduler_metrics=("eval_loss",),
    )
    worker = worker_of({"request": together})
    reports = [trained(worker) for _ in range(3)]
    assert [[(one.step, one.verdict and one.verdict.kind) for one in report.trials] for report in reports] == [
        [(1, None), (0, None), (0, None)],
        [(2, "completed"), (0, None), (0, None)],
        [(2, "completed"), (0, "infeasible"), (1, "completed")],
    ]
    assert [report.done for report in reports] == [False, False, True]
    began = [read_keeping(tmp_path / one.name) for one in specs]
    assert began == [ALONE, None, ALONE], "a resumed launch with cohorts goes on alike"
    alone = worker_of({"request": replace(requests[2], trials=(str(copied(tmp_path / "last")),))})
    assert trained(alone).done
    assert_same_outcome(Record(tmp_path / "last"), Record(tmp_path / "last-alone"))


def copied(directory: Path) -> Path:
    """Create the same trial again, beside its record."""
    record = Record(directory.with_name(f"{directory.name}-alone"))
    record.create(Record(directory).spec())
    return record.directory


def test_a_step_tells_tune_the_report_and_what_the_scheduler_reads(
    configure: Configure, make_spec: SpecMaker, worker_of: Callable[[dict[str, Any]], Any]
) -> None:
    [request] = configure(make_spec(name="watched", steps=1, batch_rows=1)).values()
    worker = worker_of({"request": replace(request, scheduler_metrics=("eval_loss",))})
    result = worker.step()
    assert result.keys() == {"report", "done", "step", "eval/eval_loss"}
    [trial] = result["report"].trials
    assert (result["step"], result["eval/eval_loss"]) == (1, trial.metrics["eval_loss"])


def test_a_request_of_another_version_is_refused_before_anything_is_opened(
    configure: Configure, make_spec: SpecMaker, worker_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    [request] = configure(make_spec(name="refused")).values()
    with pytest.raises(ProtocolMismatch, match=f"version {PROTOCOL_VERSION}, but a request has version 0"):
        worker_of({"request": replace(request, version=0)})
    assert {path.name for path in (tmp_path / "refused").iterdir()} == {"spec.json"}


# ---------------------------------------------------------------- a node without the storage
def test_a_node_that_lost_the_storage_fails_and_a_deleted_trial_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from trainables.workers import backend

    waited: list[float] = []
    monkeypatch.setattr(backend, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(backend.ray, "get_actor", lambda name: None)
    for experiment, lost in ((tmp_path, False), (tmp_path / "unmounted", True)):
        rules = Rules({}, (), BestConstraint(1.0, 1.0))
        worker = backend.OnEngine()
        worker.take(Request((str(experiment / "A1"),), rules, str(experiment / "STOP"), 0.01, 0, roster="roster"))
        if lost:
            with pytest.raises(FileNotFoundError, match="must see the storage"):
                worker.advance()
        else:
            assert worker.advance().done
    assert len(waited) == backend.STORAGE_TRIES


def test_a_trial_that_is_tried_on_another_engine_leaves_the_first_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from trainables.workers import backend
    from trainables.workers.assignment import Assignment
    from trainables.workers.retries import TrialFailure

    (tmp_path / "A1").mkdir()
    engines, calls = iter(["one", "one", "two"]), []

    class Actor:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getattr__(self, method: str) -> Any:
            def answer(request: Any, *_: object) -> Any:
                calls.append((self.name, method))
                if method == "assign":
                    return Assignment(next(engines), ())
                failed = method == "advance" and self.name == "one"
                return Report((), not failed, failure=TrialFailure("ValueError: row 3") if failed else None)

            answer.remote = answer  # type: ignore[attr-defined]
            return answer

    monkeypatch.setattr(backend.ray, "get_actor", Actor)
    monkeypatch.setattr(backend.ray, "get", lambda value: None if isinstance(value, Report) and not value.trials
                        and calls[-1][1] == "failed" else value)  # fmt: skip
    worker = backend.OnEngine()
    rules = Rules({}, (), BestConstraint(1.0, 1.0))
    worker.take(Request((str(tmp_path / "A1"),), rules, str(tmp_path / "STOP"), 0.01, 0, roster="roster"))
    assert worker.advance().done
    asked = [call for call in calls if call[0] != "roster"]
    assert asked == [("one", "advance"), ("one", "advance"), ("one", "leave"), ("two", "advance")]

"""Seats in real Ray processes, used again and again, and seats in this process for every way a trial can end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker, outcome

from trainables.constraint import BestConstraint
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.workers.protocol import Rules

Configure = Callable[[TrialSpec], dict[str, Any]]


@pytest.fixture
def configure(tmp_path: Path, make_spec: SpecMaker, baseline: Baseline) -> Configure:
    """Make the config of a seat for a spec; a trial's record lies below `tmp_path` by its name."""

    def config(spec: TrialSpec) -> dict[str, Any]:
        record = Record(tmp_path / spec.name)
        record.create(spec)
        return {
            "place": {"record": str(record.directory)},
            "rules": Rules({spec.baseline().trial_id: baseline}, (), BestConstraint(1.0, 1.0)),
            "stop_file": str(tmp_path / "stop"),
            "cpus": 1,
            "gpus": 0,
        }

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
    """Start a seat in a process of its own; the class is local, so Ray sends it by value."""
    from trainables.workers.solo_trainable import Seat

    class WatchedSeat(Seat):
        def engine_identity(self) -> int:
            return id(self._resident.engine)

        def lora_left(self) -> list[str]:
            assert self._resident.engine is not None
            return [name for name, _ in self._resident.engine.base.model.named_parameters() if "lora_" in name]

    return ray.remote(num_cpus=0)(WatchedSeat).remote(config=config)


def run_to_end(ray: Any, seat: Any) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    while not reports or not reports[-1]["done"]:
        reports.append(ray.get(seat.train.remote()))
        assert len(reports) < 10
    return reports


def test_a_reused_seat_equals_a_fresh_process_and_loads_the_base_once(
    ray_session: Any, configure: Configure, make_spec: SpecMaker, tmp_path: Path
) -> None:
    ray = ray_session
    first = make_spec(name="first", placement=Placement(language=3), rank=8, steps=2)
    values = make_spec(seed=2)
    reused = actor_of(ray, configure(first))
    fresh = actor_of(ray, configure(values.model_copy(update={"name": "fresh"})))

    reports = run_to_end(ray, reused)
    assert [(one["step"], one["verdict"], one["done"]) for one in reports] == [(2, "completed", True)]
    engine = ray.get(reused.engine_identity.remote())
    assert ray.get(reused.lora_left.remote()) == []
    assert ray.get(reused.reset.remote(configure(values.model_copy(update={"name": "reused"}))))
    reports = run_to_end(ray, reused)
    assert [(one["step"], one["done"]) for one in reports] == [(2, False), (4, True)]
    assert ray.get(reused.engine_identity.remote()) == engine

    run_to_end(ray, fresh)
    assert ray.get(fresh.engine_identity.remote()) != engine
    assert outcome(Record(tmp_path / "reused")) == outcome(Record(tmp_path / "fresh"))

    # a stop file leads to a checkpoint and an early end, and the trial goes on where it stood
    config = configure(values.model_copy(update={"name": "stopped"}))
    assert ray.get(fresh.reset.remote(config))
    assert not ray.get(fresh.train.remote())["done"]
    Path(config["stop_file"]).touch()
    report = ray.get(fresh.train.remote())
    assert (report["done"], report["verdict"]) == (True, None)
    stopped = Record(tmp_path / "stopped")
    assert stopped.verdict() is None
    assert stopped.checkpoint_steps()[0] == 2
    Path(config["stop_file"]).unlink()
    assert ray.get(fresh.reset.remote(config))
    run_to_end(ray, fresh)
    assert outcome(stopped) == outcome(Record(tmp_path / "fresh"))


def test_the_driver_imports_the_seat_without_torch() -> None:
    code = (
        "import sys, trainables.workers.solo_trainable as _; sys.exit(bool({'torch', 'transformers'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    planted = code.replace("trainables.workers.solo_trainable", "trainables.training.trial")
    assert subprocess.run([sys.executable, "-c", planted], check=False).returncode == 1


# ---------------------------------------------------------------- every end, in this process
@pytest.fixture
def seat_of() -> Iterator[Callable[[dict[str, Any]], Any]]:
    seats = []

    def start(config: dict[str, Any]) -> Any:
        from trainables.workers.solo_trainable import Seat

        seats.append(Seat(config=config))
        return seats[-1]

    yield start
    for seat in seats:
        seat.stop()


def broken_base(tmp_path: Path) -> Source:
    (tmp_path / "base").mkdir()
    return Source(path=tmp_path / "base", sha256="broken")


def broken_rows(tmp_path: Path) -> Source:
    (tmp_path / "rows.jsonl").write_text("{\n")
    return Source(path=tmp_path / "rows.jsonl", sha256="broken")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda _: {"placement": Placement(language=9)}, "asks for the last 9 of 8 language layers"),
        (lambda path: {"base": broken_base(path)}, "has no config.json"),
        (lambda path: {"train": broken_rows(path)}, "rows.jsonl:1: a row must be one JSON object"),
        (lambda path: {"init_from": Source(path=path, sha256="none")}, "an adapter directory must hold"),
    ],
)
def test_bad_input_makes_the_trial_infeasible_and_the_seat_usable(
    changes: Callable[[Path], dict],
    says: str,
    configure: Configure,
    make_spec: SpecMaker,
    seat_of: Callable[[dict[str, Any]], Any],
    tmp_path: Path,
) -> None:
    seat = seat_of(configure(make_spec(name="bad", **changes(tmp_path))))
    report = seat.train()
    assert (report["verdict"], report["done"], report["step"]) == ("infeasible(input)", True, 0)
    verdict = Record(tmp_path / "bad").verdict()
    assert verdict is not None and says in (verdict.reason or "")
    assert seat.reset(configure(make_spec(name="good", placement=Placement(language=1), steps=1, batch_rows=1)))
    assert seat.train()["verdict"] == "completed"


def test_a_row_too_long_says_at_which_step(
    configure: Configure, make_spec: SpecMaker, seat_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    spec = make_spec(name="long", eval_every_steps=1, batch_rows=1)
    seat = seat_of(configure(spec))
    assert seat.train()["step"] == 1
    seat._trial.spec = spec.model_copy(update={"max_tokens": 8})
    assert seat.train()["verdict"] == "infeasible(input)"
    verdict = Record(tmp_path / "long").verdict()
    assert verdict is not None
    assert (verdict.step, "must fit max_tokens = 8" in (verdict.reason or "")) == (1, True)


@pytest.mark.parametrize("where", ["trainables.training.trial.Trial.advance", "trainables.engine.Engine.load"])
def test_no_memory_makes_the_trial_infeasible(
    where: str,
    configure: Configure,
    make_spec: SpecMaker,
    seat_of: Callable[[dict[str, Any]], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import torch

    import trainables.training.trial  # noqa: F401 so that the method can be replaced by name

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore lines")

    monkeypatch.setattr(where, full)
    assert seat_of(configure(make_spec(name="big"))).train()["verdict"] == "infeasible(out_of_memory)"
    verdict = Record(tmp_path / "big").verdict()
    assert verdict is not None and verdict.reason == "CUDA out of memory. Tried to allocate 2 GiB"


def test_a_misplaced_adapter_is_invalid_before_the_first_step(
    configure: Configure,
    make_spec: SpecMaker,
    seat_of: Callable[[dict[str, Any]], Any],
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
        seat = seat_of(configure(make_spec(name="misplaced")))
    assert seat.train()["verdict"] == "invalid(placement)"
    fewer = Placement(language=1)  # so that a leftover of the first placement would be one module too many
    assert seat.reset(configure(make_spec(name="next", placement=fewer, steps=1, batch_rows=1)))
    assert seat.train()["verdict"] == "completed"


def test_a_finished_trial_is_not_run_again(
    configure: Configure, make_spec: SpecMaker, seat_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    config = configure(make_spec(name="once", steps=1, batch_rows=1))
    seat = seat_of(config)
    seat.train()
    before = (tmp_path / "once" / "metrics.jsonl").read_bytes()
    assert seat.reset(config)
    assert seat.train()["done"]
    assert (tmp_path / "once" / "metrics.jsonl").read_bytes() == before


def test_a_seat_that_starts_under_a_stop_file_does_nothing(
    configure: Configure, make_spec: SpecMaker, seat_of: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    (tmp_path / "stop").touch()
    report = seat_of(configure(make_spec(name="late"))).train()
    assert (report["done"], report["verdict"]) == (True, None)
    assert {path.name for path in (tmp_path / "late").iterdir()} == {"spec.json"}

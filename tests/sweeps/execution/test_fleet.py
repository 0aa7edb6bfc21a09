"""Tests which engines a launch starts, and what it does when nodes join and are lost; Ray's nodes are planted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ray.tune.search.basic_variant import BasicVariantGenerator

from sweeps.execution import fleet, ray_session
from sweeps.execution.fleet import NO_ENGINE_SECONDS, WATCH_SECONDS, Fleet, FleetWatch, engines
from sweeps.execution.ray_session import Resources, live_nodes
from trainables.record import Record
from trainables.workers.roster import News


class Engine(str):
    """An engine actor, by its name; `ended` are those that were told to leave no file."""

    ended: ClassVar[list[str]] = []

    @property
    def end(self) -> Any:
        return SimpleNamespace(remote=lambda: self.ended.append(self))


class Ray:
    """Replaces Ray: the nodes of a cluster, and the options of each engine that is started on them."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.options_seen: list[dict[str, Any]] = []
        self.settings: list[Any] = []
        self.killed: list[str] = []

    def plant(self, **nodes: dict[str, float]) -> Resources:
        self.listed = [
            {"NodeID": name, "Alive": True, "Resources": resources, "NodeManagerAddress": f"10.0.0.{name}"}
            for name, resources in nodes.items()
        ]
        found = live_nodes()
        return Resources(1, 1 if any(node.gpus for node in found) else 0, found)

    def nodes(self) -> list[dict[str, Any]]:
        return self.listed

    def remote(self, *given: Any) -> Any:
        if isinstance(given[0], type):
            return self
        if len(given) > 1:
            return "roster"
        self.settings.append(given[0])
        return Engine(self.options_seen[-1]["name"])

    def options(self, **options: Any) -> Ray:
        if options["num_cpus"]:
            self.options_seen.append(options)
        return self

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "here")

    def wait(self, calls: list[Any], num_returns: int, timeout: float) -> None:
        assert num_returns == len(calls) and timeout < 60

    def kill(self, actor: str) -> None:
        self.killed.append(actor)

    @property
    def started_on(self) -> list[str]:
        return [one["scheduling_strategy"].node_id for one in self.options_seen]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    planted = Ray()
    Engine.ended.clear()
    monkeypatch.setattr(fleet, "ray", planted)
    monkeypatch.setattr(ray_session, "ray", planted)
    monkeypatch.setattr(fleet, "NodeAffinitySchedulingStrategy", Affinity)
    return planted


class Affinity:
    def __init__(self, node_id: str, soft: bool) -> None:
        self.node_id, self.soft = node_id, soft


# ---------------------------------------------------------------- engines
def test_engines_hold_a_gpu_each_and_are_ended_whatever_happens(ray: Ray, tmp_path: Path) -> None:
    resources = ray.plant(a={"CPU": 16, "GPU": 4})
    with pytest.raises(KeyboardInterrupt), engines(resources, 33, tmp_path / "stop", 8) as started:
        raise KeyboardInterrupt
    assert [one["num_gpus"] for one in ray.options_seen] == [1] * 4
    assert {one["max_restarts"] for one in ray.options_seen} == {-1}
    assert [one["name"] for one in ray.options_seen] == list(started.engines) == ray.killed[:-1]
    assert ray.killed[-1] == "roster"
    assert len(set(started.engines)) == 4
    assert {(one.threads, one.max_trials) for one in ray.settings} == {(4, 8)}


def test_without_gpus_each_node_gets_its_engine_and_a_lone_core_keeps_room_for_workers(
    ray: Ray, tmp_path: Path
) -> None:
    with engines(ray.plant(h={}, a={"CPU": 1}, b={"CPU": 1}), 11, tmp_path / "stop", None):
        pass
    assert ray.started_on == ["a", "b"]
    assert not any(one["scheduling_strategy"].soft for one in ray.options_seen), "it would wait for room elsewhere"
    assert all(one["num_gpus"] == 0 and one["num_cpus"] < 1 for one in ray.options_seen)


def test_engines_of_a_node_without_gpus_share_weights_and_leave_no_file(ray: Ray, tmp_path: Path) -> None:
    with engines(ray.plant(a={"CPU": 1}, b={"CPU": 2}), 11, tmp_path / "stop", None):
        pass
    names = [one["name"] for one in ray.options_seen]
    [alone, *together] = [one.sharing_launch for one in ray.settings]
    assert ray.started_on == ["a", "b", "b"] and alone == "" and together[0] == together[1] != ""
    assert Engine.ended == names[1:]
    with engines(ray.plant(b={"CPU": 2}), 11, tmp_path / "stop", None):
        pass
    assert ray.settings[-1].sharing_launch not in ("", *together), "another launch has files of its own"


def test_engines_on_gpus_load_for_themselves(ray: Ray, tmp_path: Path) -> None:
    with engines(ray.plant(a={"CPU": 16, "GPU": 4}), 33, tmp_path / "stop", None):
        pass
    assert {one.sharing_launch for one in ray.settings} == {""} and Engine.ended == []


def test_a_node_that_joins_gets_engines_and_a_lost_one_loses_its_own(ray: Ray, tmp_path: Path) -> None:
    started = Fleet(ray.plant(h={}, a={"CPU": 2}), 9, tmp_path / "stop", None)
    assert started.watch(0.0) == ({}, (), [])
    ray.plant(h={}, a={"CPU": 2}, b={"CPU": 2})
    joined, lost, told = started.watch(2.0)
    assert list(joined.values()) == ["b", "b"] and lost == ()
    assert told == ["node 10.0.0.b has joined: 2 engines of 1 thread"]
    assert started.watch(4.0) == ({}, (), []), "it joins once"
    ray.plant(h={}, b={"CPU": 2})
    joined, lost, told = started.watch(6.0)
    assert joined == {} and len(lost) == 2
    assert told == ["node 10.0.0.a is lost: its trials go on elsewhere from their newest checkpoints"]
    assert set(started.engines.values()) == {"b"}
    assert len(set(one["name"] for one in ray.options_seen)) == 4, "no two engines have one name"


def test_a_launch_on_gpus_takes_no_node_without_one(ray: Ray, tmp_path: Path) -> None:
    started = Fleet(ray.plant(a={"CPU": 8, "GPU": 1}), 9, tmp_path / "stop", None)
    ray.plant(a={"CPU": 8, "GPU": 1}, b={"CPU": 64}, c={"CPU": 8, "GPU": 2})
    joined, _, _ = started.watch(2.0)
    assert list(joined.values()) == ["c", "c"]


def test_a_launch_without_any_engine_waits_for_a_node_and_then_stops(ray: Ray, tmp_path: Path) -> None:
    started = Fleet(ray.plant(h={}, a={"CPU": 2}), 9, tmp_path / "stop", None)
    ray.plant(h={})
    started.watch(100.0)
    started.watch(100.0 + NO_ENGINE_SECONDS)
    assert not started.has_given_up
    ray.plant(h={}, b={"CPU": 2})
    started.watch(101.0 + NO_ENGINE_SECONDS)
    ray.plant(h={})
    started.watch(102.0 + NO_ENGINE_SECONDS)
    assert not started.stop_file.exists(), "a node came back in time"
    started.watch(103.0 + 2 * NO_ENGINE_SECONDS)
    assert started.has_given_up and started.stop_file.exists()


# ---------------------------------------------------------------- while Tune runs
class Heard:
    """Keeps what a launch shows."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def started(self, record: Record) -> None: ...

    def advanced(self, record: Record) -> None: ...

    def assigned(self, record: Record, engine: str) -> None:
        self.told.append((record.name, engine))

    def noted(self, text: str) -> None:
        self.told.append(text)

    def retried(self, records: Sequence[Record], reason: str) -> None:
        self.told.append(([record.name for record in records], reason))


class Remote:
    """A roster whose calls are kept; its news are planted."""

    def __init__(self, news: News) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.planted = news

    def __getattr__(self, name: str) -> Any:
        class Call:
            def remote(_, *given: Any) -> Any:
                self.calls.append((name, *given))
                return self.planted

        return Call()


def test_workers_are_as_many_as_engines_can_train_and_the_news_is_shown(
    ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Fleet(ray.plant(a={"CPU": 1}), 9, tmp_path / "stop", None)
    remote = Remote(News(2, {"/runs/A1": "engine"}, {"it died": ("/runs/A1", "/runs/A2", "/runs/A1")}))
    started.roster = remote
    monkeypatch.setattr(ray, "get", lambda value, timeout: value, raising=False)
    searcher, heard, seconds = BasicVariantGenerator(), Heard(), [0.0]
    watch = FleetWatch(started, searcher, heard, 24, lambda: seconds[0])
    assert searcher.max_concurrent == 24
    ray.plant(a={"CPU": 1}, b={"CPU": 1})
    watch.on_step_begin(0, [])
    assert searcher.max_concurrent == 24, "Ray is asked at most every few seconds"
    seconds[0] += WATCH_SECONDS
    watch.on_step_begin(0, [])
    assert searcher.max_concurrent == 48
    assert remote.calls[0][0] == "joined" and remote.calls[0][2] == "b"
    assert heard.told == [
        "node 10.0.0.b has joined: 1 engine of 1 thread", ("A1", "engine"), (["A1", "A2"], "it died"),
    ]  # fmt: skip
    remote.calls.clear()
    remote.planted = News(0)
    seconds[0] += WATCH_SECONDS
    watch.on_step_begin(0, [])
    assert sorted(call[2] for call in remote.calls if call[0] == "joined") == ["a", "b"], "a roster that began anew"

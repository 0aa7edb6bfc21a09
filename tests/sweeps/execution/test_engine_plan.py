"""Tests which trials are planned to train together, and how trials are distributed over engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution import ray_session, tuner
from sweeps.execution.engine_plan import (
    EnginePlan,
    cohorts,
    describe,
    distribute,
    engine_plans,
    groups,
    most_at_once,
    threads_asked,
)  # fmt: skip
from sweeps.execution.ray_session import Resources
from sweeps.execution.tuner import engines
from trainables.errors import InfrastructureError, UserError
from trainables.model import families
from trainables.spec import Placement, Source, TrialSpec


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a base to the path that the specs of these tests name."""
    monkeypatch.chdir(tmp_path)
    Path("base").mkdir()
    Path("base/config.json").write_text('{"model_type": "qwen3_vl"}', encoding="utf-8")
    Path("base/model.safetensors").touch()


def spec(language: int, vision: int = 0, **changes: Any) -> TrialSpec:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    placement = Placement(language=language, vision=vision)
    return TrialSpec(name=f"L{language}-V{vision}", placement=placement, **(sources | changes))


# ---------------------------------------------------------------- who trains together
def test_trials_that_cannot_share_are_in_separate_cohorts_and_baselines_in_none() -> None:
    specs = [spec(0), spec(1), spec(2, quantization="int8"), spec(3), spec(4, data_seed=1)]
    assert [[one.placement.language for one in kind] for kind in cohorts(specs)] == [[1, 3], [2], [4]]


def test_the_plan_names_one_cohort_and_its_base() -> None:
    assert describe([spec(0), spec(1), spec(2)], None) == "1 cohort: 2 on one base (quantization=nf4-double)."
    assert describe([spec(1), spec(2)], 8) == "1 cohort, at most 8 at once: 2 on one base (quantization=nf4-double)."
    many = [spec(1, seed=seed) for seed in range(25)]
    assert describe(many[1:], None) == "1 cohort: 24 on one base (quantization=nf4-double)."
    assert describe(many, None).startswith("1 cohort, at most 24 of an engine at once: 25 on one base")


@pytest.mark.parametrize(
    ("key", "value", "usual"),
    [
        ("quantization", "int8", "nf4-double"),
        ("compute_dtype", "float32", "auto"),
        ("data_seed", 1, 0),
        ("batch_rows", 8, 16),
        ("accumulation_steps", 2, 1),
        ("max_tokens", 512, 2048),
        ("eval_every_steps", 60, 24),
        ("steps", 90, 120),
    ],
)
def test_the_plan_says_what_keeps_them_apart(key: str, value: object, usual: object) -> None:
    output = describe([spec(1), spec(2), spec(3, **{key: value})], None)
    assert output == (
        f"2 cohorts: 2 on {key}={usual}, 1 on {key}={value}; trials that differ in these settings cannot share a pass."
    )


def test_the_plan_says_when_a_family_shares_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    family = replace(families.FAMILIES["qwen3_vl"], shared_forward=None)
    monkeypatch.setattr(families, "FAMILIES", {"qwen3_vl": family})
    specs = [spec(0), spec(1), spec(2, data_seed=1)]
    assert describe(specs, None) == (
        "2 trials train one after another on the base in memory: "
        "trials of the model family qwen3_vl cannot share a pass."
    )
    assert describe(specs, 1) == "2 trials train alone (--cohort 1)."


def test_the_plan_reports_trials_that_train_alone() -> None:
    assert describe([spec(0), spec(1), spec(2)], 1) == "2 trials train alone (--cohort 1)."


# ---------------------------------------------------------------- dealt to engines
@pytest.mark.parametrize(("trials", "engine_count"), [(24, 1), (24, 5), (3, 8), (0, 2), (7, 2)])
def test_parts_are_of_like_size_and_everybody_is_in_one(trials: int, engine_count: int) -> None:
    parts = distribute([spec(1 + number % 4, seed=number) for number in range(trials)], engine_count)
    assert len(parts) == engine_count
    assert sorted(index for part in parts for index in part) == list(range(trials))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_trial_that_shares_more_weighs_less() -> None:
    specs = [spec(2), spec(4), *(spec(language, vision) for language in (0, 2, 4) for vision in (2, 4, 6))]
    assert [len(part) for part in distribute(specs, 2)] == [6, 5]


def test_kinds_are_kept_together_and_neighbours_within_them() -> None:
    specs = [
        spec(language, vision, quantization=quantization)
        for language, vision in ((2, 1), (1, 0), (3, 0), (1, 2))
        for quantization in ("nf4", "int8")
    ]
    parts = [[(specs[index].quantization, specs[index].name) for index in part] for part in distribute(specs, 4)]
    assert parts == [
        [("int8", "L1-V0"), ("int8", "L3-V0")],
        [("int8", "L2-V1"), ("int8", "L1-V2")],
        [("nf4", "L1-V0"), ("nf4", "L3-V0")],
        [("nf4", "L2-V1"), ("nf4", "L1-V2")],
    ]


# ---------------------------------------------------------------- what the cluster has
def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plant the nodes that Ray lists."""

    def plant(*nodes: dict[str, Any]) -> None:
        alive = [one["Resources"] for one in nodes if one["Alive"]]
        totals = {kind: sum(one.get(kind, 0) for one in alive) for kind in ("CPU", "GPU")}
        monkeypatch.setattr(tuner.ray, "nodes", lambda: list(nodes))
        monkeypatch.setattr(tuner.ray, "cluster_resources", lambda: {k: v for k, v in totals.items() if v})

    return plant


@pytest.mark.parametrize(
    ("nodes", "resources"),
    [
        ([node("a", CPU=16, GPU=4)], Resources(1, 1, 4, {"a": 16})),
        ([node("a", CPU=8), node("b", CPU=8, GPU=1), node("c", False, GPU=8)], Resources(1, 1, 1, {"a": 8, "b": 8})),
        ([node("head"), node("a", CPU=8.0)], Resources(1, 0, 0, {"a": 8})),
    ],
)  # fmt: skip
def test_the_resources_of_a_cluster_are_read(nodes: list[dict[str, Any]], resources: Resources, cluster: Any) -> None:
    cluster(*nodes)
    assert ray_session._resources() == resources


@pytest.mark.parametrize(
    ("cores", "gpus", "trials", "plans"),
    [
        ({"a": 16}, 4, 33, [EnginePlan(None, 4)] * 4),
        ({"a": 2}, 8, 33, [EnginePlan(None, 1)] * 8),
        ({"a": 16}, 4, 1, [EnginePlan(None, 4)]),
        ({"a": 2}, 0, 12, [EnginePlan("a", 1)] * 2),
        ({"a": 2}, 0, 3, [EnginePlan("a", 2)]),
        ({"a": 16}, 0, 12, [EnginePlan("a", 4)] * 4),
        ({"a": 8, "b": 1}, 0, 12, [EnginePlan("a", 4)] * 2 + [EnginePlan("b", 1)]),
    ],
)
def test_an_engine_for_each_gpu_else_one_for_every_few_trials(
    cores: dict[str, int], gpus: int, trials: int, plans: list[EnginePlan]
) -> None:
    assert engine_plans(cores, gpus, trials) == plans


def test_baselines_run_before_the_others_and_need_no_engine_beside_theirs() -> None:
    arms = [spec(1), spec(2), spec(3)]
    assert most_at_once([spec(0), *arms]) == 3
    assert engine_plans({"a": 2}, 0, most_at_once([spec(0), *arms])) == [EnginePlan("a", 2)]
    assert most_at_once([spec(0), spec(0, quantization="int8"), spec(1)]) == 2
    assert most_at_once([spec(0)]) == 1


@pytest.mark.parametrize(
    ("environment", "bound"),
    [({}, None), ({"FOOTPRINT_THREADS": "3"}, 3), ({"FOOTPRINT_THREADS": " 2 "}, 2), ({"FOOTPRINT_THREADS": ""}, None),
     ({"OMP_NUM_THREADS": "1"}, None), ({"OMP_NUM_THREADS": "1", "FOOTPRINT_THREADS": "4"}, 4)],
)  # fmt: skip
def test_the_user_bounds_the_threads_of_an_engine_and_ray_does_not(
    environment: dict[str, str], bound: int | None
) -> None:
    assert threads_asked(environment) == bound


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "2,1"])
def test_a_bound_that_is_no_number_of_threads_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="FOOTPRINT_THREADS must be a whole number from 1 on"):
        threads_asked({"FOOTPRINT_THREADS": text})


@pytest.mark.parametrize(("bound", "threads"), [(1, 1), (3, 3), (64, 4), (None, 4)])
def test_an_engine_takes_its_share_or_the_bound_if_that_is_less(bound: int | None, threads: int) -> None:
    assert engine_plans({"a": 16}, 4, 33, bound) == [EnginePlan(None, threads)] * 4
    assert engine_plans({"a": 16}, 0, 12, bound) == [EnginePlan("a", threads)] * 4


class Started:
    """Replaces `ray.remote(EngineActor)`: keeps the arguments of each engine."""

    def __init__(self) -> None:
        self.options_seen: list[dict[str, Any]] = []
        self.settings: list[Any] = []

    def options(self, **options: Any) -> Started:
        self.options_seen.append(options)
        return self

    def remote(self, settings: Any) -> str:
        self.settings.append(settings)
        return self.options_seen[-1]["name"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    engine = Started()
    monkeypatch.setattr(tuner.ray, "remote", lambda _: engine)
    return engine


def test_engines_hold_a_gpu_each_and_are_ended_whatever_happens(
    cluster: Any, started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed: list[str] = []
    monkeypatch.setattr(tuner.ray, "kill", killed.append)
    cluster(node("a", CPU=16, GPU=4))
    with pytest.raises(KeyboardInterrupt), engines(ray_session._resources(), 33, tmp_path / "stop", 8) as names:
        raise KeyboardInterrupt
    assert [one["num_gpus"] for one in started.options_seen] == [1] * 4
    assert {one["scheduling_strategy"] for one in started.options_seen} == {"DEFAULT"}
    assert {one["max_restarts"] for one in started.options_seen} == {-1}
    assert [one["name"] for one in started.options_seen] == names == killed
    assert len(set(names)) == 4
    assert {(one.threads, one.max_trials) for one in started.settings} == {(4, 8)}


def test_without_gpus_each_node_gets_its_engine_and_a_lone_core_keeps_room_for_workers(
    cluster: Any, started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuner.ray, "kill", lambda _: None)
    first, second = "a" * 56, "b" * 56
    cluster(node("head"), node(first, CPU=1), node(second, CPU=1))
    with engines(ray_session._resources(), 11, tmp_path / "stop", None):
        pass
    assert [one["scheduling_strategy"].node_id for one in started.options_seen] == [first, second]
    assert all(one["scheduling_strategy"].soft for one in started.options_seen)
    assert all(one["num_gpus"] == 0 and one["num_cpus"] < 1 for one in started.options_seen)


def test_a_node_without_cores_gets_no_engine_and_a_cluster_of_them_none_to_train_on() -> None:
    assert {one.node for one in engine_plans({"head": 0, "worker": 2}, 0, 9)} == {"worker"}
    with pytest.raises(InfrastructureError, match=r"its 1 node\(s\) offer none"):
        engine_plans({"head": 0}, 0, 9)


@pytest.mark.parametrize(
    ("trials", "most", "sizes"), [(0, 24, []), (1, 24, [1]), (24, 24, [24]), (25, 24, [12, 13]), (70, 24, [23, 23, 24])]
)
def test_groups_are_of_like_size_in_order_and_everybody_is_in_one(trials: int, most: int, sizes: list[int]) -> None:
    found = groups(range(trials), most)
    assert [len(group) for group in found] == sizes
    assert [one for group in found for one in group] == list(range(trials))

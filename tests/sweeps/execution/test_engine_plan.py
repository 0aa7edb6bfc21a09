"""Tests which trials are planned to train together, and how trials are distributed over engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution import ray_session
from sweeps.execution.engine_plan import (
    EnginePlan,
    Node,
    cohorts,
    describe,
    distribute,
    engine_plans,
    groups,
    most_at_once,
    split,
    threads_asked,
)  # fmt: skip
from sweeps.execution.ray_session import Resources
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
        monkeypatch.setattr(ray_session.ray, "nodes", lambda: list(nodes))
        monkeypatch.setattr(ray_session.ray, "cluster_resources", lambda: {k: v for k, v in totals.items() if v})

    return plant


@pytest.mark.parametrize(
    ("nodes", "resources"),
    [
        ([node("a", CPU=16, GPU=4)], Resources(1, 1, (Node("a", 16, 4),))),
        (
            [node("a", CPU=8), node("b", CPU=8, GPU=1), node("c", False, GPU=8)],
            Resources(1, 1, (Node("a", 8), Node("b", 8, 1))),
        ),
        ([node("head"), node("a", CPU=8.0)], Resources(1, 0, (Node("head", 0), Node("a", 8)))),
    ],
)
def test_the_resources_of_a_cluster_are_read(nodes: list[dict[str, Any]], resources: Resources, cluster: Any) -> None:
    cluster(*nodes)
    assert ray_session._resources() == resources


@pytest.mark.parametrize(
    ("nodes", "trials", "plans"),
    [
        ([Node("a", 16, 4)], 33, [EnginePlan("a", 4)] * 4),
        ([Node("a", 2, 8)], 33, [EnginePlan("a", 1)] * 8),
        ([Node("a", 16, 4)], 1, [EnginePlan("a", 4)]),
        ([Node("a", 8), Node("b", 8, 1)], 33, [EnginePlan("b", 8)]),
        ([Node("a", 2)], 12, [EnginePlan("a", 1)] * 2),
        ([Node("a", 2)], 3, [EnginePlan("a", 2)]),
        ([Node("a", 16)], 12, [EnginePlan("a", 4)] * 4),
        ([Node("a", 8), Node("b", 1)], 12, [EnginePlan("a", 4)] * 2 + [EnginePlan("b", 1)]),
    ],
)
def test_an_engine_for_each_gpu_else_one_for_every_few_trials(
    nodes: list[Node], trials: int, plans: list[EnginePlan]
) -> None:
    assert engine_plans(nodes, trials) == plans


def test_a_launch_on_gpus_takes_no_node_without_one_and_one_on_cores_takes_no_gpu() -> None:
    assert engine_plans([Node("a", 8, 2)], 33, on_gpus=False) == [EnginePlan("a", 1)] * 8
    with pytest.raises(InfrastructureError):
        engine_plans([Node("a", 8)], 33, on_gpus=True)


def test_baselines_run_before_the_others_and_need_no_engine_beside_theirs() -> None:
    arms = [spec(1), spec(2), spec(3)]
    assert most_at_once([spec(0), *arms]) == 3
    assert engine_plans([Node("a", 2)], most_at_once([spec(0), *arms])) == [EnginePlan("a", 2)]
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
    assert engine_plans([Node("a", 16, 4)], 33, bound) == [EnginePlan("a", threads)] * 4
    assert engine_plans([Node("a", 16)], 12, bound) == [EnginePlan("a", threads)] * 4


def test_a_node_without_cores_gets_no_engine_and_a_cluster_of_them_none_to_train_on() -> None:
    assert {one.node for one in engine_plans([Node("head", 0), Node("worker", 2)], 9)} == {"worker"}
    with pytest.raises(InfrastructureError, match=r"its 1 node\(s\) offer none"):
        engine_plans([Node("head", 0)], 9)


@pytest.mark.parametrize(
    ("trials", "most", "sizes"), [(0, 24, []), (1, 24, [1]), (24, 24, [24]), (25, 24, [12, 13]), (70, 24, [23, 23, 24])]
)
def test_parts_are_of_like_size_in_order_and_everybody_is_in_one(trials: int, most: int, sizes: list[int]) -> None:
    found = split(range(trials), most)
    assert [len(part) for part in found] == sizes
    assert [one for part in found for one in part] == list(range(trials))


def test_trials_that_cannot_train_together_are_in_groups_of_their_own() -> None:
    specs = [spec(1, quantization=mode, seed=seed) for seed in range(3) for mode in ("nf4", "none")]
    [first, second] = groups(specs, 2, 24)
    kinds = [[{specs[index].quantization for index in group} for group in share] for share in (first, second)]
    assert all(len(kind) == 1 for share in kinds for kind in share)
    assert sorted(index for share in (first, second) for group in share for index in group) == list(range(6))
    assert max(len(group) for share in groups(specs, 1, 2) for group in share) == 2

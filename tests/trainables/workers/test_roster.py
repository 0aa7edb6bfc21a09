"""Tests what the roster makes of engines that end, are lost and join; Ray and its engines are planted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from trainables.workers import roster
from trainables.workers.assignment import Assignment, Group
from trainables.workers.retries import TrialFailure
from trainables.workers.roster import News, Roster
from trainables.workers.watchdog import STACKS

DIED = "ActorDiedError: The actor died unexpectedly."


class Ray:
    """Replaces Ray: which nodes are alive, and engines that answer after some calls."""

    def __init__(self) -> None:
        self.alive = {"node-1", "node-2"}
        self.unavailable = 0
        self.asked: list[tuple[str, ...]] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": name in self.alive} for name in ("node-1", "node-2", "node-3")]

    def get_actor(self, name: str) -> Any:
        planted = self

        class Ready:
            async def remote(self) -> None:
                if planted.unavailable:
                    planted.unavailable -= 1
                    raise ActorUnavailableError("it starts", None)

        class Release:
            async def remote(self, trials: tuple[str, ...]) -> tuple[str, ...]:
                planted.asked.append(trials)
                return trials if trials[0] != "a" else ()  # the engine trains the first group

        engine = type("Engine", (), {"ready": Ready(), "release": Release()})
        return engine()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    planted = Ray()
    monkeypatch.setattr(roster, "ray", planted)
    monkeypatch.setattr(roster, "POLL_SECONDS", 0.01)
    return planted


def begun(groups: list[Group], engines: dict[str, str], stop_file: Path) -> Roster:
    made = Roster(engines, str(stop_file))
    asyncio.run(made.begin(groups, retries=2))
    return made


def two_engines(stop_file: Path, trials: str = "abc") -> Roster:
    groups = [Group(tuple(trials), 0), Group(("x",), 1)]
    return begun(groups, {"one": "node-1", "two": "node-2"}, stop_file)


def test_a_process_that_ended_is_a_failure_of_its_job_alone_and_once(ray: Ray, tmp_path: Path) -> None:
    made = two_engines(tmp_path / "stop")
    ray.unavailable = 2

    async def story() -> list[Assignment | None]:
        for trial in "abc":
            await made.assign(trial)
        await made.began("one", ("a", "b"))
        for trial in "aabc":
            assert await made.engine_ended(trial, "one", DIED) is None
        return [await made.assign(trial) for trial in "abc"]

    places = asyncio.run(story())
    assert [(one.engine, one.company) for one in places if one] == [("one", 1), ("one", 1), ("one", None)]


def test_a_trial_that_ends_its_process_twice_alone_is_given_up(ray: Ray, tmp_path: Path) -> None:
    made = two_engines(tmp_path / "stop")

    async def story() -> Any:
        for _ in range(2):
            await made.assign("a")
            await made.began("one", ("a",))
            ended = await made.engine_ended("a", "one", DIED)
        return ended

    ended = asyncio.run(story())
    assert ended is not None and ended.reason == f"failed twice alike: {DIED}"


def test_a_trial_that_failed_alone_goes_to_another_engine_and_one_that_failed_among_others_stays(
    ray: Ray, tmp_path: Path
) -> None:
    made = two_engines(tmp_path / "stop")

    async def story() -> list[Assignment | None]:
        for trial in "abc":
            await made.assign(trial)
        await made.failed("a", TrialFailure("ValueError: row 3"))
        await made.failed("b", TrialFailure("ValueError: row 3", company=2))
        return [await made.assign(trial) for trial in "abc"]

    assert [one.engine for one in asyncio.run(story()) if one] == ["two", "one", "one"]


def test_a_lost_node_is_no_failure_and_its_trials_go_elsewhere(ray: Ray, tmp_path: Path) -> None:
    made = two_engines(tmp_path / "stop")

    async def story() -> list[Assignment | None]:
        for trial in "abc":
            await made.assign(trial)
        await made.began("one", ("a", "b", "c"))
        ray.unavailable = 10**6
        ended = [asyncio.ensure_future(made.engine_ended(trial, "one", DIED)) for trial in "abc"]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in ended), "whether the node is lost is not known yet"
        ray.alive.discard("node-1")
        assert await asyncio.gather(*ended) == [None] * 3
        return [await made.assign(trial) for trial in "abc"]

    places = asyncio.run(story())
    assert [(one.engine, one.company) for one in places if one] == [("two", None)] * 3


def test_a_hang_is_no_failure_of_a_trial_and_names_its_stacks(ray: Ray, tmp_path: Path) -> None:
    made = two_engines(tmp_path / "stop", (str(tmp_path),))  # type: ignore[arg-type]
    trial = str(tmp_path)

    async def story() -> News:
        for _ in range(4):
            await made.assign(trial)
            await made.began("one", (trial,))
            (tmp_path / STACKS).write_text("Thread 0x1")
            assert await made.engine_ended(trial, "one", DIED) is None, "it counts as its own failure"
        return await made.news()

    news = asyncio.run(story())
    assert [reason.split("/")[-1].split()[0] for reason in news.retried] == [f"stacks-{n}.txt" for n in (1, 2, 3, 4)]


def test_without_an_engine_a_trial_waits_until_one_joins_or_the_launch_stops(ray: Ray, tmp_path: Path) -> None:
    made = two_engines(tmp_path / "stop")

    async def story() -> list[Assignment | None]:
        await made.lost("one")
        await made.lost("two")
        waiting = asyncio.ensure_future(made.assign("a"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await made.joined("three", "node-3")
        first = await waiting
        await made.lost("three")
        waiting = asyncio.ensure_future(made.assign("a"))
        (tmp_path / "stop").touch()
        return [first, await waiting]

    first, second = asyncio.run(story())
    assert first is not None and first.engine == "three" and second is None


def test_an_engine_that_joins_takes_over_what_waits_and_the_news_say_so(ray: Ray, tmp_path: Path) -> None:
    groups = [Group(("a",)), Group(("b", "c")), Group(("d",))]
    made = begun(groups, {"one": "node-1"}, tmp_path / "stop")

    async def story() -> tuple[News, News]:
        for trial in "abcd":
            await made.assign(trial)
        first = await made.news()
        await made.joined("two", "node-2")
        await made.failed("b", TrialFailure("ValueError: row 3", company=2))
        for trial in "abcd":
            await made.assign(trial)
        return first, await made.news()

    first, second = asyncio.run(story())
    assert (first.engines, first.assigned) == (1, dict.fromkeys("abcd", "one"))
    assert ray.asked == [("d",)], "one group is enough for an engine with nothing to do"
    assert (second.engines, second.assigned) == (2, {"a": "one", "b": "one", "c": "one", "d": "two"})
    assert second.retried == {"ValueError: row 3": ("b",)}


def test_a_group_that_an_engine_does_not_release_is_left_and_the_next_is_asked_for(ray: Ray, tmp_path: Path) -> None:
    groups = [Group(("b", "c")), Group(("a",))]
    made = begun(groups, {"one": "node-1"}, tmp_path / "stop")

    async def story() -> Assignment | None:
        for trial in "bca":
            await made.assign(trial)
        await made.joined("two", "node-2")
        return await made.assign("b")

    assigned = asyncio.run(story())
    assert ray.asked == [("a",), ("b", "c")]
    assert assigned is not None and assigned.engine == "two"


def test_a_trial_has_no_engine_before_its_gate_is_open(ray: Ray, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(roster, "GATE_SECONDS", 0.01)
    made, gate = two_engines(tmp_path / "stop"), tmp_path / "gate"

    async def story() -> tuple[bool, Assignment | None, Assignment | None]:
        waiting = asyncio.create_task(made.assign("a", str(gate)))
        baseline = await made.assign("A0")
        await asyncio.sleep(0.1)
        was_done = waiting.done()
        gate.touch()
        return was_done, baseline, await waiting

    was_done, baseline, found = asyncio.run(story())
    assert not was_done and baseline is not None and baseline.peers == ("A0",)
    assert found is not None and found.peers == ("a", "b", "c")
    (tmp_path / "stop").touch()
    assert asyncio.run(made.assign("b", str(tmp_path / "never"))) is None

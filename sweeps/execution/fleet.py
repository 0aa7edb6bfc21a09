"""The engines of a launch: starts them, adds those of nodes that join, and forgets those of nodes that are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayActorError
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.execution.engine_plan import EnginePlan, Node, engine_plans
from sweeps.execution.engine_text import engines_text
from sweeps.execution.ray_session import Resources, live_nodes
from sweeps.execution.relay import Listener
from trainables.frozen.settings import IN_MEMORY, CacheSettings
from trainables.record import Record
from trainables.workers.assignment import Group
from trainables.workers.engine_actor import EngineActor, EngineSettings
from trainables.workers.roster import News, Roster

ENGINE_CPUS = 0.5  # on a machine with one core, the waiting workers need the rest
MAX_CALLS = 10_000  # workers that can wait for one engine at once
WATCH_SECONDS = 2.0
NEWS_SECONDS = 10.0
END_SECONDS = 5.0  # for an engine to remove its files
NO_ENGINE_SECONDS = 600.0  # a launch waits for a node to join when it has lost its last one


class Fleet:
    """The engine actors of a launch by name, each with the id of its node, for `trials` trials at once.

    Ray starts an engine that ends again on its node. The engines of a lost node are lost.
    """

    def __init__(
        self, resources: Resources, trials: int, stop_file: Path, max_trials: int | None,
        max_threads: int | None = None, cache: CacheSettings = IN_MEMORY,
    ) -> None:  # fmt: skip
        self.resources, self.trials, self.stop_file = resources, trials, stop_file
        self.max_trials, self.max_threads, self.cache = max_trials, max_threads, cache
        self.engines: dict[str, str] = {}
        self.plans = engine_plans(resources.nodes, trials, max_threads)
        self.has_given_up = False
        self._token, self._actors = uuid4().hex[:8], {}
        self._sharing: list[Any] = []  # the engines that share weights with others of their node
        self._nodes = {node.name: node for node in resources.nodes}
        self._lost_at_seconds: float | None = None
        self._start(self.plans)
        self.roster_name = f"footprint-roster-{self._token}"
        self.roster = self._started_roster()

    def begin(self, groups: Sequence[Group], retries: int) -> None:
        """Let the roster assign the trials of these groups to the engines."""
        ray.get(self.roster.begin.remote(groups, retries))

    def _started_roster(self) -> Any:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(Roster).options(
            name=self.roster_name, num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=MAX_CALLS,
            scheduling_strategy=here,
        )  # fmt: skip
        return actor.remote(dict(self.engines), str(self.stop_file))

    def _start(self, plans: Sequence[EnginePlan]) -> list[str]:
        names = [f"footprint-engine-{self._token}-{len(self._actors) + number}" for number in range(len(plans))]
        for name, one in zip(names, plans, strict=True):
            shares = not self.resources.gpus and sum(other.node == one.node for other in plans) > 1
            settings = EngineSettings(
                one.threads, str(self.stop_file), self.max_trials, cache=self.cache,
                sharing_launch=self._token if shares else "",
            )  # fmt: skip
            # a lost node's engine must not wait for another node to have room: its trials go on elsewhere
            only_there = NodeAffinitySchedulingStrategy(one.node, soft=False)
            engine: Any = ray.remote(EngineActor).options(
                name=name, num_cpus=ENGINE_CPUS, num_gpus=self.resources.gpus, max_restarts=-1,
                max_concurrency=MAX_CALLS, scheduling_strategy=only_there,
            )  # fmt: skip
            self._actors[name], self.engines[name] = engine.remote(settings), one.node
            if shares:
                self._sharing.append(self._actors[name])
        return names

    # ---------------------------------------------------------------- nodes that come and go
    def watch(self, now_seconds: float) -> tuple[Mapping[str, str], tuple[str, ...], list[str]]:
        """Start the engines of nodes that have joined; return these, the lost engines, and what to tell the user."""
        alive = {node.name: node for node in live_nodes()}
        lost_nodes = [node for name, node in self._nodes.items() if name not in alive]
        lost = tuple(name for name, node in self.engines.items() if node not in alive)
        for name in lost:
            del self.engines[name]
        joined, told = {}, [lost_text(node) for node in lost_nodes]
        for node in [one for name, one in alive.items() if name not in self._nodes and self._offers(one)]:
            plans = engine_plans([node], self.trials, self.max_threads, bool(self.resources.gpus))
            joined |= {name: self.engines[name] for name in self._start(plans)}
            told.append(f"node {node.address or node.name} has joined: {engines_text(plans)}")
        self._nodes = alive
        self._wait_or_give_up(now_seconds)
        return joined, lost, told

    def close(self) -> None:
        """End all engines, and the roster."""
        if self._sharing:
            ending = [actor.end.remote() for actor in self._sharing]
            ray.wait(ending, num_returns=len(ending), timeout=END_SECONDS)
        for actor in (*self._actors.values(), self.roster):
            ray.kill(actor)

    def _offers(self, node: Node) -> bool:
        return bool(node.gpus if self.resources.gpus else node.cores)

    def _wait_or_give_up(self, now_seconds: float) -> None:
        if self.engines:
            self._lost_at_seconds = None
        elif self._lost_at_seconds is None:
            self._lost_at_seconds = now_seconds
        elif now_seconds - self._lost_at_seconds > NO_ENGINE_SECONDS:
            self.has_given_up = True
            self.stop_file.touch()


def lost_text(node: Node) -> str:
    """Return what to tell of a lost node."""
    return f"node {node.address or node.name} is lost: its trials go on elsewhere from their newest checkpoints"


@contextmanager
def engines(
    resources: Resources, trials: int, stop_file: Path, max_trials: int | None, max_threads: int | None = None,
    cache: CacheSettings = IN_MEMORY,
) -> Iterator[Fleet]:  # fmt: skip
    """Start the engines that `engine_plans` plans for `trials` trials, and end them and all later ones afterwards."""
    fleet = Fleet(resources, trials, stop_file, max_trials, max_threads, cache)
    try:
        yield fleet
    finally:
        fleet.close()


# ---------------------------------------------------------------- while Tune runs
class FleetWatch(tune.Callback):
    """Lets engines join and leave while Tune runs a batch, gives them workers, and passes on the roster's news."""

    def __init__(
        self, fleet: Fleet, searcher: BasicVariantGenerator, listener: Listener, most_seats: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.fleet, self.searcher, self.listener = fleet, searcher, listener
        self.most_seats, self.clock = most_seats, clock
        self._watched_seconds = clock()
        self.searcher.max_concurrent = self._seats()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which is not used

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = self.clock()
        if now - self._watched_seconds >= WATCH_SECONDS:
            self._watched_seconds = now
            self._watch(now)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._watch(self.clock())

    def _watch(self, now_seconds: float) -> None:
        joined, lost, told = self.fleet.watch(now_seconds)
        for text in told:
            self.listener.noted(text)
        roster = self.fleet.roster
        for name in lost:
            roster.lost.remote(name)
        for name, node in joined.items():
            roster.joined.remote(name, node)
        self.searcher.max_concurrent = self._seats()
        try:
            news: News = ray.get(roster.news.remote(), timeout=NEWS_SECONDS)
        except (GetTimeoutError, RayActorError):
            return  # it is being started again, or the machine is busy
        self._pass_on(news)
        if not joined and not lost and news.engines != len(self.fleet.engines):  # it was started again
            for name, node in self.fleet.engines.items():
                roster.joined.remote(name, node)

    def _pass_on(self, news: News) -> None:
        for trial, engine in news.assigned.items():
            self.listener.assigned(Record(Path(trial)), engine)
        for reason, trials in news.retried.items():
            self.listener.retried([Record(Path(trial)) for trial in dict.fromkeys(trials)], reason)

    def _seats(self) -> int:
        return max(1, len(self.fleet.engines) * self.most_seats)  # 0 would be without limit

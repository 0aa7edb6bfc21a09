"""A session: Ray, its engines and the mirror, held open while a launch has trials to run, one batch or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweeps.display.live_table import Board
from sweeps.execution.baselines import baseline_of
from sweeps.execution.experiment import Experiment
from sweeps.study import Study
from sweeps.tracking.tracker import Tracker, default_tracking_uri
from trainables.record import Record

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.execution.tuner import Resources
    from sweeps.tracking.mirror import Mirror


MIRROR_CLOSE_SECONDS = 60.0


@dataclass(frozen=True)
class Room:
    """Ray while it runs: what the cluster has, and the names of the engine actors; none where trials train alone."""

    resources: Resources
    engines: Sequence[str]


@dataclass(frozen=True)
class Listener:
    """Tells the board and the mirror what the seats do."""

    board: Board
    mirror: Mirror

    def started(self, record: Record) -> None:
        """Pass on that a seat took the trial."""
        self.board.started(record)
        self.mirror.submit(record)

    def advanced(self, record: Record) -> None:
        """Pass on that a trial has a new eval or a verdict."""
        self.board.advanced(record)
        self.mirror.submit(record)


@contextmanager
def mirrored(study: Study, experiment: Experiment, baselines: Sequence[Record], launch: Launch) -> Iterator[Mirror]:
    """Mirror an experiment to MLflow until the end of the block; says what MLflow misses then."""
    from sweeps.tracking.mirror import Mirror

    tracker = Tracker(launch.tracking_uri or default_tracking_uri(), experiment.name)
    tags = {"footprint.study": study.name, "footprint.baseline": ",".join(r.spec().trial_id for r in baselines)}
    mirror = Mirror(tracker, launch.command, tags)
    try:
        yield mirror
    finally:
        left = mirror.close(MIRROR_CLOSE_SECONDS)
    if left:
        launch.console.print(
            f"MLflow misses {len(left)} trials ({mirror.last_outage}); run the same command with --sync",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


@contextmanager
def ray_room(experiment: Experiment, trials: int, launch: Launch) -> Iterator[Room]:
    """Start Ray, and engines for so many trials at once; Ctrl-C asks seats to checkpoint until the end of the block."""
    from sweeps.execution.tuner import engines, ray_session, stopping_on_signals

    with ExitStack() as stack:
        resources = stack.enter_context(ray_session(launch.address))
        stack.enter_context(stopping_on_signals(experiment.stop_file))
        alone = launch.cohort == 1
        started = nullcontext([]) if alone else engines(resources, trials, experiment.stop_file, launch.cohort)
        yield Room(resources, stack.enter_context(started))


def run_batch(
    study: Study, experiment: Experiment, records: Sequence[Record], room: Room, launch: Launch, mirror: Mirror
) -> None:
    """Run those of `records` that have no verdict: baselines first, then the arms that are held against them.

    Raises:
        UserError: a baseline has no result, or the base breaks a guard.
    """
    from sweeps.execution.tuner import Seating, run_seats
    from trainables.workers.protocol import Rules

    board = Board(launch.console, records)
    listener = Listener(board, mirror)
    baselines = [record for record in records if record.spec().placement.is_baseline]
    todo = [record for record in records if record.verdict() is None]
    rules = Rules({}, study.guards, study.constraint)
    seating = Seating(rules, room.resources, experiment.stop_file, launch.retries, room.engines)
    with board:
        run_seats([record for record in todo if record in baselines], seating, listener)
        if not experiment.stop_file.exists():
            known = {record.spec().trial_id: baseline_of(record, study) for record in baselines}
            seating = replace(seating, rules=replace(rules, baselines=known), scheduler=launch.scheduler)
            run_seats([record for record in todo if record not in baselines], seating, listener)

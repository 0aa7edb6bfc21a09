"""Measures what keeping the activations of frozen layers saves: in 1 and 3 epochs, and in a second study on the rows.

All arms train the same rows in the same steps, without evals, in this process, interleaved; of several repetitions the
fastest counts. CPU seconds are the default: they hardly depend on what else a machine does. Steps count from the
second on: the first has what an engine does once (digests of the base, check of shapes, times of a step), which
`the first step` tells. `decided` arms keep what `trainables.frozen.worth` decides for a run of so many epochs.

    python -m benchmarks.kept --shape deep --families A,A1x24,A1 --wall
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.families import NAMES, family, trial
from benchmarks.shapes import SHAPES, Shape, prepared
from trainables.command import run
from trainables.errors import UserError, items, nearest
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from benchmarks.sharing import Bench
    from trainables.cohort.cuts import Cut
    from trainables.engine import Engine

EPOCHS = 3
ARMS = ("alone", "shared", "kept, 1 epoch", f"kept, {EPOCHS} epochs", "a second study", "the same, from files")
DECIDED = {epochs: f"decided, {epochs} epoch{'s' * (epochs > 1)}" for epochs in (1, EPOCHS)}
FIRST = "the first step"  # of a run that keeps, in a new process
COLUMNS = (*ARMS, *DECIDED.values(), FIRST)
SOLO_STEPS = 4  # every step of a trial alone costs the same


@dataclass
class Clock:
    """A stop check, which a trial calls before every step; it stops the trial after `steps` of them."""

    steps: int
    now: Callable[[], float]
    times: list[float] = field(default_factory=list)

    def __call__(self) -> bool:
        """Take the time and return whether to stop."""
        self.times.append(self.now())
        return len(self.times) > self.steps

    def seconds(self, first: int = 0, last: int | None = None) -> float:
        """Return the mean seconds of a step, of those from `first` to `last`."""
        times = self.times[first : None if last is None else last + 1]
        return (times[-1] - times[0]) / (len(times) - 1)


def keeping(engine: Engine, directory: Path | None = None) -> Engine:
    """Return the engine with an empty store, or one that has only the files of `directory`."""
    from trainables.frozen.kept import KeptActivations
    from trainables.frozen.settings import CacheSettings
    from trainables.frozen.store import Store

    store = Store.of(CacheSettings(directory=str(directory or ""), file_bytes=10**10))
    assert store is not None
    return replace(engine, kept=KeptActivations(engine.base, engine.encoder, store))


def alone(bench: Bench, specs: Sequence[TrialSpec], now: Callable[[], float]) -> float:
    """Return the seconds of one step of all trials, each alone; equal trials are timed once."""
    found: dict[tuple[int, int], float] = {}
    for spec in specs:
        depth = (spec.placement.language, spec.placement.vision)
        if depth not in found:
            with ExitStack() as stack:
                clock = Clock(SOLO_STEPS, now)
                bench.open(spec, stack).advance(clock)
                found[depth] = clock.seconds(first=1)
    return sum(found[spec.placement.language, spec.placement.vision] for spec in specs)


def cohort(
    bench: Bench, engine: Engine, specs: Sequence[TrialSpec], clock: Clock, cut: Cut | None, decides: bool = False
) -> Cut | None:
    """Train the trials as one cohort until the clock stops them; return its cut into passes.

    Where it `decides`, its passes start from entries only if that pays; else always, where the engine keeps them.
    """
    from trainables.cohort.cohort import Cohort

    bench.engine = engine
    with ExitStack() as stack:
        trials = []
        for spec in specs:
            trials.append(bench.open(spec, stack))
            trials[-1].adapter.remove()  # the next one is placed on a bare base
        one = Cohort(engine, trials, cut)
        one.keeping = None if decides else one.keeping
        one.clock = clock.now
        stack.callback(one.remove)
        one.advance(clock)
        return one.cut


def measured(bench: Bench, specs: Sequence[TrialSpec], repeats: int, now: Callable[[], float]) -> dict[str, float]:
    """Return the seconds of one step of all trials by arm."""
    plain, found = bench.engine, {arm: float("inf") for arm in COLUMNS}
    epoch, cuts = specs[0].steps // EPOCHS, {}
    for kept in (False, True):  # calibrates; the second run of a shape is warm
        cuts[kept] = cohort(bench, keeping(plain) if kept else plain, specs, Clock(1, now), None)
    for _ in range(repeats):
        bench.engine = plain
        times = {ARMS[0]: alone(bench, specs, now)}
        cohort(bench, plain, specs, clock := Clock(SOLO_STEPS, now), cuts[False])
        times[ARMS[1]] = clock.seconds(first=1)
        with tempfile.TemporaryDirectory() as files:
            engine = keeping(plain, Path(files))
            cohort(bench, engine, specs, clock := Clock(specs[0].steps - 1, now), cuts[True])
            times |= {ARMS[2]: clock.seconds(1, epoch), ARMS[3]: clock.seconds(1), FIRST: clock.seconds(last=1)}
            for arm, warm in ((ARMS[4], engine), (ARMS[5], keeping(plain, Path(files)))):
                cohort(bench, warm, specs, clock := Clock(epoch, now), cuts[True])
                times[arm] = clock.seconds()
        for epochs, arm in DECIDED.items():
            steps = epochs * epoch
            run_of = [one.model_copy(update={"steps": steps, "eval_every_steps": steps}) for one in specs]
            cohort(bench, keeping(plain), run_of, clock := Clock(steps - 1, now), None, decides=True)
            times[arm] = clock.seconds(1)
        found = {arm: min(found[arm], times[arm]) for arm in COLUMNS}
    bench.engine = plain
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the seconds of a step by family and arm, and how many times sooner than alone, as a table."""
    lines = ["| family | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for name, times in found.items():
        cells = [f"{times[arm]:.3f} s ({times['alone'] / times[arm]:.2f})" for arm in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(shape: Shape, names: Sequence[str], repeats: int, threads: int, now: Callable[[], float]) -> str:
    """Return the table of a shape."""
    import torch

    from benchmarks.sharing import Bench
    from trainables.engine import Engine

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        settings: dict[str, Any] = prepared(shape, Path(scratch), EPOCHS * shape.steps)
        settings["steps"] = EPOCHS * -(-shape.amounts.train // _rows_a_step(settings))
        spec = trial("C2", settings)
        bench = Bench(Engine.on(shape.load(spec.base.path, spec), spec), Path(scratch) / "records")
        specs = {name: family(name, settings) if name in NAMES else [trial(name, settings)] for name in names}
        return table({name: measured(bench, those, repeats, now) for name, those in specs.items()})


def _rows_a_step(settings: dict[str, Any]) -> int:
    return settings["batch_rows"] * settings["accumulation_steps"]


def main(
    shape: Annotated[str, typer.Option(help="Model size: mini, deep or 4b.")] = "deep",
    families: Annotated[str, typer.Option(help="Families and arms, e.g. A,A1x24,A1.")] = "A,A1x24,A1",
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    wall: Annotated[bool, typer.Option("--wall", help="Wall-clock seconds, for an idle machine or a GPU.")] = False,
) -> None:
    """Measure and print a table; takes some five minutes on an idle core."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if shape not in SHAPES:
        raise UserError(f"a shape must be one of {', '.join(SHAPES)}, but got `{shape}`", nearest(shape, SHAPES))
    names = items(families, "--families", "A,A1x24")
    typer.echo(measure(SHAPES[shape], names, repeats, threads, time.perf_counter if wall else time.process_time))


if __name__ == "__main__":
    run(main)

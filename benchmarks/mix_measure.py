"""Measures mixes of trials of unlike depths on one base: whole training steps, alone and in a cohort, interleaved."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks import text_rows
from benchmarks.families import modelled
from benchmarks.mix_page import Figure
from benchmarks.shapes import SHAPES, prepared
from benchmarks.sharing import Bench
from trainables.cohort.cohort import Cohort
from trainables.cohort.cuts import Cut, Member, passes
from trainables.engine import Engine
from trainables.io.files import read_json
from trainables.mini import BASE_DIRECTORY
from trainables.spec import Placement, TrialSpec

RANKS = (8, 16)
SEED = 0  # of the random mixes
STEPS, WARM_UP = 3, 1  # timed steps of a run, and those before; the first one calibrates
LARGEST = 6  # members of a random mix


@dataclass(frozen=True)
class Mix:
    """Trials that differ in depth, by (language layers, vision blocks, rank); `named` ones must reach a ratio."""

    arms: tuple[tuple[int, int, int], ...]
    named: bool = False

    @property
    def name(self) -> str:
        """Return the depths of its members."""
        return " ".join(_depth("L", language) + _depth("V", vision) for language, vision, _ in self.arms)


@dataclass(frozen=True)
class Effort:
    """Interleaved runs of each way, the clock, the threads of torch, and where lines are shown."""

    repeats: int
    clock: Callable[[], float]
    threads: int
    say: Callable[[str], None]


@dataclass
class Stopwatch:
    """A stop check, which a trial calls before every step; it stops after the last timed one."""

    effort: Effort
    times: list[float] = field(default_factory=list)

    def __call__(self) -> bool:
        """Record the clock and return whether to stop."""
        self.times.append(self.effort.clock())
        return len(self.times) > WARM_UP + STEPS

    @property
    def step_seconds(self) -> list[float]:
        """Return the seconds of every timed step."""
        return [later - earlier for earlier, later in pairwise(self.times[WARM_UP:])]


def fastest(runs: Sequence[Sequence[float]]) -> float:
    """Return the mean seconds of a step, each step in its fastest run, which other work delayed the least."""
    return sum(min(step) for step in zip(*runs, strict=True)) / len(runs[0])


def depths_of(shape: str, base: Path | None) -> tuple[int, int]:
    """Return the number of language layers and vision blocks of a shape."""
    if shape == "deep":
        return 36, 24
    config = read_json((BASE_DIRECTORY if shape == "mini" or base is None else base) / "config.json")
    text = config.get("text_config") or config
    return text["num_hidden_layers"], (config.get("vision_config") or {}).get("depth", 0)


def named_mixes(layers: int, blocks: int) -> list[Mix]:
    """Return the mixes of the goals: shallow arms beside all layers, and vision arms beside one of both towers."""
    mixes = [Mix(((2, 0, 16), (4, 0, 16), (layers, 0, 16)), named=True)]
    return mixes + [Mix(((0, 2, 16), (0, 6, 16), (2, 6, 16)), named=True)] * bool(blocks)


def random_mixes(layers: int, blocks: int, count: int) -> list[Mix]:
    """Return mixes of two to six trials of random depth and rank; a third of the trials adapts the vision tower."""
    draw, mixes = random.Random(SEED), []
    while len(mixes) < count:
        arms = []
        for _ in range(draw.randint(2, LARGEST)):
            vision = draw.randint(1, blocks) if blocks and draw.random() < 1 / 3 else 0
            arms.append((draw.randint(0 if vision else 1, layers), vision, draw.choice(RANKS)))
        mixes.append(Mix(tuple(arms)))
    return mixes


def measure_mixes(name: str, directory: Path, mixes: Sequence[Mix], effort: Effort, base: Path | None) -> list[Figure]:
    """Measure mixes on one shape in this process, on one resident base."""
    torch.set_num_threads(effort.threads)
    steps = WARM_UP + STEPS + 1
    if name == "base":
        assert base is not None
        settings = text_rows.settings(directory, base, steps)
    else:
        settings = prepared(SHAPES[name], directory / "shape", steps)
    first = _specs(mixes[0], settings)
    engine = Engine.load(first[0], torch.device("cpu"))
    bench = Bench(engine, directory / "records")
    figures = []
    for mix in mixes:
        figures.append(_measured(name, mix, bench, _specs(mix, settings), effort))
        effort.say(figures[-1].line)
    return figures


def _depth(letter: str, layers: int) -> str:
    return f"{letter}{layers}" if layers else ""


def _specs(mix: Mix, settings: Mapping[str, Any]) -> list[TrialSpec]:
    return [
        TrialSpec(**{**settings, "name": f"{number}", "rank": rank, "alpha": 2.0 * rank, "seed": number,
                     "placement": Placement(language=language, vision=vision)})
        for number, (language, vision, rank) in enumerate(mix.arms)
    ]  # fmt: skip


def _measured(shape: str, mix: Mix, bench: Bench, specs: Sequence[TrialSpec], effort: Effort) -> Figure:
    alone: list[list[float]] = []
    together: list[list[float]] = []
    cut: Cut | None = None
    for _ in range(effort.repeats):
        alone.append([sum(steps) for steps in zip(*(_alone(bench, one, effort) for one in specs), strict=True)])
        steps, cut = _together(bench, specs, effort, cut)
        together.append(steps)
    assert cut is not None
    members = [Member(number, one.placement.language, one.placement.vision) for number, one in enumerate(specs)]
    split, cost, arms = passes(members, cut), bench.cost(specs), [modelled(spec) for spec in specs]
    return Figure(
        shape=shape,
        mix=mix.name,
        named=mix.named,
        cut=", ".join("+".join(mix.name.split()[number] for number in one) for one in split),
        alone_seconds=fastest(alone),
        cohort_seconds=fastest(together),
        model_ratio=sum(cost.solo(arm) for arm in arms) / cost.passes(arms, split),
    )


def _alone(bench: Bench, spec: TrialSpec, effort: Effort) -> list[float]:
    with ExitStack() as stack:
        trial, watch = bench.open(spec, stack), Stopwatch(effort)
        trial.advance(watch)
        return watch.step_seconds


def _together(bench: Bench, specs: Sequence[TrialSpec], effort: Effort, cut: Cut | None) -> tuple[list[float], Cut]:
    with ExitStack() as stack:
        trials = []
        for spec in specs:
            trials.append(bench.open(spec, stack))
            trials[-1].adapter.remove()  # the next one is placed on a bare base
        cohort = Cohort(bench.engine, trials, cut)
        stack.callback(cohort.remove)
        cohort.clock, watch = effort.clock, Stopwatch(effort)
        cohort.advance(watch)
        assert cohort.cut is not None
        return watch.step_seconds, cohort.cut

"""Trains trials alone and together on new records, and keeps the loss of every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from small_trials import ANYTHING_GOES, never, train_to

from trainables.cohort.cohort import Cohort
from trainables.cohort.cuts import Cut
from trainables.constraint import applicable_constraint
from trainables.engine import Engine
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import TrialSpec
from trainables.training.trial import Trial
from trainables.verdict import Verdict

ALL_AT_ONCE = Cut((), 8)


class Watched:
    """Opens trials on new records and keeps the loss of every step; `breaks` puts NaN into a trial after its step."""

    def __init__(
        self, engine: Engine, baseline: Baseline, directory: Path, breaks: dict[str, int] | None = None
    ) -> None:
        self.engine, self.baseline, self.directory, self.breaks = engine, baseline, directory, breaks or {}
        self.curves: dict[str, list[float]] = {}

    def open(self, spec: TrialSpec, guards: Sequence[Any] = ()) -> Trial:
        record = Record(self.directory / spec.name)
        record.create(spec)
        constraint = applicable_constraint(ANYTHING_GOES, self.baseline.metrics)
        trial = Trial(self.engine, spec, record, self.baseline, guards, constraint)
        if self.engine.base.model.dtype == torch.float64:
            for _, parameter in trial.adapter.trained():
                parameter.data = parameter.data.double()
        curve, learn = self.curves.setdefault(spec.name, []), trial.finish_step

        def watched(loss: float, has_images: bool, seconds: float) -> Any:
            curve.append(loss)
            verdict = learn(loss, has_images, seconds)
            if trial.step == self.breaks.get(spec.name):
                trial.adapter.trained()[0][1].data.fill_(float("nan"))
            return verdict

        trial.finish_step = watched  # type: ignore[method-assign]
        return trial

    def opened(self, specs: Sequence[TrialSpec]) -> list[Trial]:
        """Open trials for a cohort, each removed from the base before the next."""
        trials = []
        for spec in specs:
            trials.append(self.open(spec))
            trials[-1].adapter.remove()
        return trials

    def alone(self, spec: TrialSpec, guards: Sequence[Any] = (), until: int | None = None) -> Trial:
        """Run one trial by itself to its verdict, or to step `until`."""
        trial = self.open(spec, guards)
        try:
            while trial.advance(lambda: False) is None and trial.step != until:
                pass
        finally:
            trial.remove()
        return trial


def apart(own: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest difference of two curves of equal length; NaN equals NaN."""
    assert len(own) == len(other) > 0
    assert [math.isnan(one) for one in own] == [math.isnan(one) for one in other]
    return max(abs(a - b) for a, b in zip(own, other, strict=True) if not math.isnan(a))


class Together:
    """A cohort on fresh records: curves, verdicts and records by name."""

    def __init__(
        self, engine: Engine, baseline: Baseline, directory: Path, specs: Sequence[TrialSpec],
        breaks: dict[str, int] | None = None, cut: Cut | None = ALL_AT_ONCE,
    ) -> None:  # fmt: skip
        self.watched = Watched(engine, baseline, directory, breaks)
        self.cohort = Cohort(engine, self.watched.opened(specs), cut)
        self.names = {spec.trial_id: spec.name for spec in specs}
        self.ended: dict[str, Verdict] = {}

    def advance(self, stop_requested: Callable[[], bool] = never) -> list[str]:
        """Advance once; returns the trials that ended."""
        ended = {self.names[one]: verdict for one, verdict in self.cohort.advance(stop_requested).items()}
        self.ended |= ended
        return list(ended)

    def finish(self) -> Together:
        """Train until every trial has ended; the base is restored."""
        try:
            while self.cohort.trials:
                self.advance()
        finally:
            self.cohort.remove()
        return self

    @property
    def ends(self) -> dict[str, str]:
        return {name: str(self.ended[name]) for name in sorted(self.ended)}

    def record(self, name: str) -> Record:
        return Record(self.watched.directory / name)


def train_alone(watched: Watched, specs: list[TrialSpec], steps: int) -> None:
    """Train each trial alone to step `steps`."""
    for spec in specs:
        trial = watched.open(spec)
        train_to(trial, steps)
        trial.remove()


def train_packed(watched: Watched, specs: list[TrialSpec], steps: int) -> None:
    """Train all to step `steps` in one cohort."""
    cohort = Cohort(watched.engine, watched.opened(specs), ALL_AT_ONCE)
    first = cohort.trials[0]
    cohort.advance(lambda: first.step >= steps)
    cohort.remove()

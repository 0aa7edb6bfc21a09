"""An engine that trains nothing: its trials take a second, and write the records that real ones would."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from benchmarks.fake_trials import Rows, drawn_eval, drawn_interval, samples, save_best
from sweeps.execution import fleet
from trainables.attempt import claim
from trainables.constraint import best_eval
from trainables.engine_log import add_use
from trainables.io.files import write_json
from trainables.phase import PhaseFile
from trainables.record import Record
from trainables.schedule import next_eval, planned_evals
from trainables.spec import TrialSpec
from trainables.verdict import Verdict
from trainables.workers.engine_actor import EngineActor, EngineSettings
from trainables.workers.protocol import Request

TRIAL_SECONDS = 1.0
PRUNED_EVERY = 10  # one trial in ten is pruned half way
LABELS = {"minimum": {"met": True, "criteria": []}, "optimal": {"met": False, "criteria": []}, "degraded": []}


@contextmanager
def fake_engines() -> Iterator[None]:
    """Let launches of this process start fake engines; nothing else of a launch is replaced."""
    with patch.object(fleet, "EngineActor", FakeEngine):
        yield


class FakeEngine(EngineActor):
    """The engine actor, with a runner that trains nothing."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.runner = FakeRunner(settings.threads, Path(settings.stop_file))  # type: ignore[assignment]


@dataclass
class FakeTrial:
    """An opened trial: its record, its number of completed steps, and the step at which it ends."""

    record: Record
    spec: TrialSpec
    request: Request
    phase: PhaseFile
    last_step: int
    step: int = 0


@dataclass
class FakeRunner:
    """Has the methods of `CohortRunner`; a whole cohort takes as long as one of its trials, as on a GPU."""

    threads: int
    stop_file: Path
    seconds: float = TRIAL_SECONDS
    engine_key: tuple[str, ...] | None = None
    trials: list[FakeTrial] = field(default_factory=list)
    rows: Rows | None = None

    def stop_requested(self) -> bool:
        """True when the launch asks all trials to stop."""
        return self.stop_file.exists()

    def open(self, record: Record, request: Request) -> FakeTrial | None:
        """Open a trial; a baseline is measured at once, and returns None."""
        if record.verdict() is not None or self.stop_requested():
            return None
        record = claim(record, request.lease_epoch)
        spec = record.spec()
        self.rows = self.rows or Rows.of(spec)
        phase = PhaseFile(record.directory)
        phase.show("loading")
        record.forget_after(-1)
        write_json(record.directory / "placement.json", {"language": {"modules": [], "parameters": 0}})
        write_json(record.directory / "battery.json", {"seconds": 0.0, "finding": None})
        add_use(record.directory, "cpu", self.threads, "unquantized")
        if spec.placement.is_baseline:
            self._measure(record, spec, 0)
            record.close(Verdict(kind="completed", step=0))
            return None
        ends = spec.steps // 2 if int(spec.trial_id, 16) % PRUNED_EVERY == 0 else spec.steps
        phase.show("waiting")
        return FakeTrial(record, spec, request, phase, ends)

    def is_current(self, trials: Sequence[FakeTrial]) -> bool:
        """Return True: there is no base that could be another one."""
        return True

    def start(self, trials: Sequence[FakeTrial]) -> tuple[str, ...]:
        """Make a cohort of opened trials."""
        self.trials = list(trials)
        return self.members()

    def members(self) -> tuple[str, ...]:
        """Return the record directories of the trials in the cohort."""
        return tuple(str(trial.record.home) for trial in self.trials)

    def advance(self, leave: Sequence[str]) -> frozenset[str]:
        """Wait until the next eval of the cohort, and write what it measured."""
        self.trials = [trial for trial in self.trials if str(trial.record.home) not in leave]
        if self.trials:
            spec = self.trials[0].spec
            time.sleep(self.seconds / planned_evals(spec.steps, spec.eval_every_steps, False))
        kinds = {kind for trial in self.trials if (kind := self._interval(trial)) is not None}
        self.trials = [trial for trial in self.trials if trial.step < trial.last_step]
        return frozenset(kinds)

    def close(self, drop_base: bool) -> None:
        """End the cohort."""
        self.trials = []

    def end_sharing(self) -> None:
        """Do nothing: there are no weights."""

    def _interval(self, trial: FakeTrial) -> str | None:
        spec = trial.spec
        trial.step = next_eval(trial.step, spec.steps, spec.eval_every_steps)
        trial.phase.show("training", trial.step)
        self._measure(trial.record, spec, trial.step)
        if trial.step < trial.last_step:
            return None
        kind = "completed" if trial.step == spec.steps else "pruned"
        rules = trial.request.rules
        baseline = rules.baselines[spec.baseline().trial_id]
        best = best_eval(rules.constraint, baseline.metrics, trial.record.evals())
        if best is not None:
            save_best(trial.record, spec, best)
        write_json(trial.record.directory / "labels.json", LABELS)
        trial.record.close(Verdict(kind=kind, step=trial.step, cause="irrelevant_pass" if kind == "pruned" else None))
        return kind

    def _measure(self, record: Record, spec: TrialSpec, step: int) -> None:
        assert self.rows is not None
        record.append(drawn_interval(spec, step, self.seconds * step / spec.steps))
        record.append(drawn_eval(spec, step, self.rows))
        record.write_samples(step, samples(self.rows, spec.placement.is_baseline))

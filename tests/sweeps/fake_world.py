"""Processes, a clock and an engine for launches without Ray and torch; what they write is what real ones write.

A process can end at any of its durable writes. The engine trains by hashing, so that every eval of a trial is known in
advance; it writes and resumes as `trainables/training/trial.py` does, through the same functions.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.execution import lease_holder
from sweeps.execution.experiment import Experiment
from sweeps.tracking.mirror import Mirror
from trainables import lease
from trainables.attempt import claim
from trainables.constraint import BestConstraint, best_eval
from trainables.io.files import read_json, write_json
from trainables.lease import Owner
from trainables.record import ADAPTERS, Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.training.resuming import resumable_step
from trainables.verdict import Verdict

STEPS, EVAL_EVERY, PRUNED_AT = 6, 2, 4
BASELINE = {"irrelevant_pass": 1.0, "hallucination": 0.0}
ANY = BestConstraint(max_irrelevant_pass_drop=1.0, max_hallucination_rise=1.0)
TORN_BYTES = 20  # that an interrupted write leaves out


class Killed(BaseException):
    """The process was killed; nothing of it runs on."""


class Broken(Exception):
    """What a trial that cannot work raises whenever it trains."""


@dataclass
class World:
    """Which processes live, which one runs now, the clock of the storage, and when a durable write fails."""

    now: float = 0.0
    beaten: float = 0.0  # when the lease of the experiment was last kept fresh
    running: Owner = field(default_factory=lambda: Owner(host="A", machine="A", pid=1, started=1))
    dead: set[int] = field(default_factory=set)
    pids: int = 1
    writes_left: int | None = None
    error: BaseException | None = None

    def process(self, host: str) -> Owner:
        """Start a process on a machine."""
        self.pids += 1
        return Owner(host=host, machine=host, pid=self.pids, started=self.pids)

    def has_ended(self, owner: Owner) -> bool | None:
        """Return what the running process can know of another."""
        return owner.pid in self.dead if owner.machine == self.running.machine else None

    @contextmanager
    def failing(self, writes: int | None, error: BaseException) -> Iterator[None]:
        """Let the durable write after `writes` others fail, half done; None lets none fail."""
        self.writes_left, self.error = writes, error
        try:
            yield
        finally:
            self.writes_left = None

    def wrote(self, descriptor: int | None = None) -> None:
        """Count a durable write."""
        if self.writes_left is None:
            return
        self.writes_left -= 1
        if self.writes_left < 0:
            self.writes_left = None
            if descriptor is not None and (size := os.fstat(descriptor).st_size) > TORN_BYTES:
                os.truncate(f"/proc/self/fd/{descriptor}", size - TORN_BYTES)
            assert self.error is not None
            raise self.error

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put this world in the place of the machine's."""
        replace, rename, link = Path.replace, Path.rename, os.link

        def counted(call: Any) -> Any:
            def write(*arguments: Any) -> Any:
                self.wrote()
                return call(*arguments)

            return write

        patch.setattr(os, "fsync", self.wrote)
        patch.setattr(Path, "replace", counted(replace))
        patch.setattr(Path, "rename", counted(rename))
        patch.setattr(os, "link", counted(link))
        patch.setattr(lease, "has_ended", self.has_ended)
        patch.setattr(lease, "_age_seconds", lambda _: self.now - self.beaten)
        patch.setattr("sweeps.execution.lease_holder.this_process", lambda: self.running)


def planned(root: Path) -> list[TrialSpec]:
    """Return the trials: one completes, one is stopped by a guard, one cannot work."""
    sources: dict[str, Any] = {key: Source(path=root / key, sha256=key) for key in ("base", "train", "validation")}
    return [
        TrialSpec(name=name, ood=Source(path=root / "ood", sha256="ood"), placement=Placement(language=number),
                  steps=STEPS, eval_every_steps=EVAL_EVERY, **sources)
        for number, name in enumerate(("whole", "pruned", "broken"), start=1)
    ]  # fmt: skip


def weights(name: str, step: int) -> str:
    """Return the adapter of a trial after a number of steps."""
    state = name
    for _ in range(step):
        state = sha256(state.encode()).hexdigest()
    return state


def metrics(name: str, step: int) -> dict[str, float]:
    """Return what an eval of a trial measures."""
    return {"eval_loss": int(weights(name, step)[:6], 16) / 2**24, "irrelevant_pass": 1.0, "hallucination": 0.0,
            "exact_match": step / STEPS}  # fmt: skip


def verdict_at(name: str, step: int) -> Verdict | None:
    """Return the verdict that an eval at `step` leads to."""
    if name == "pruned" and step >= PRUNED_AT:
        return Verdict(kind="pruned", step=step, cause="a guard", reason="it fell")
    return Verdict(kind="completed", step=step) if step == STEPS else None


@dataclass
class FakeTrial:
    """A trial in an engine; `step` and `state` are in its memory."""

    record: Record
    spec: TrialSpec
    step: int
    state: str

    @classmethod
    def opened(cls, world: World, home: Path, launch: int, engine: Owner) -> FakeTrial | None:
        """Claim, resume and open a trial; None if it has ended."""
        record = claim(Record(home), launch, ended=world.has_ended, me=engine)
        if record.verdict() is not None:
            return None
        spec = record.spec()
        step = resumable_step(record, spec, ANY, BASELINE)
        record.forget_after(-1 if step is None else step)
        if step is None:
            return cls(record, spec, 0, weights(spec.name, 0))
        return cls(record, spec, step, read_json(record.checkpoint(step) / "progress.json")["state"])

    def train(self) -> None:
        """Take one step."""
        if self.spec.name == "broken" and self.step >= 1:
            raise Broken("it cannot work")
        self.step += 1
        self.state = sha256(self.state.encode()).hexdigest()

    def evaluate(self) -> Verdict | None:
        """Record an eval, checkpoint, and close the trial if it ends, in the order of the real one."""
        record, step = self.record, self.step
        record.append(Measurement("train", step, {"step_loss": 1.0}))
        with record.saving(f"{ADAPTERS}/step-{step}") as directory:
            (directory / "adapter").write_text(self.state)
        record.append(Measurement("eval", step, metrics(self.spec.name, step)))
        record.write_samples(step, [{"answer": self.state}])
        best = best_eval(ANY, BASELINE, record.evals())
        if best is not None and best.step == step:
            with record.saving("best") as directory:
                write_json(directory / "provenance.json", {"step": step, "metrics": dict(best.metrics)})
        self.checkpoint()
        verdict = verdict_at(self.spec.name, step)
        if verdict is not None:
            record.close(verdict)
        return verdict

    def checkpoint(self) -> None:
        """Save the state."""
        with self.record.saving(f"checkpoints/step-{self.step}") as directory:
            write_json(directory / "progress.json", {"state": self.state})
        self.record.keep_checkpoints(2)


# -------------------------------------------------------------------- a launch
class Thread:
    """Runs nothing: the machine calls what a thread would."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        pass

    def join(self, _seconds: float | None = None) -> None:
        pass


THREADS = SimpleNamespace(Thread=Thread, Lock=threading.Lock, Event=threading.Event)


class Heart(lease_holder._Heart):
    """A heartbeat by hand; that of a killed launch gives nothing back."""

    newest: Any = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_killed = False
        Heart.newest = self

    def end(self) -> bool:
        return False if self.is_killed else super().end()

    def beat(self) -> None:
        with suppress(OSError):
            self._refresh()


@dataclass
class Running:
    """A launch: its driver, its engine with the trials in its memory, its heartbeat and its mirror."""

    experiment: Experiment
    driver: Owner
    engine: Owner
    stack: ExitStack
    heart: Heart
    mirror: Mirror
    open: dict[str, FakeTrial] = field(default_factory=dict)

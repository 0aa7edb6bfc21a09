"""The baseline trial: evaluates the base without an adapter, as the reference for all other trials."""

from __future__ import annotations

import time
from collections.abc import Callable

from trainables.checkpoints.provenance import peak_memory_mb, write_placement
from trainables.engine import Engine
from trainables.health import eval_controls, eval_integrity
from trainables.health.checks import judge_metrics
from trainables.measurement import eval_measurement
from trainables.model.families import TOWERS
from trainables.model.placement import resolve
from trainables.phase import PhaseFile
from trainables.record import Measurement, Record
from trainables.spec import TrialSpec
from trainables.training.asking import ask_all
from trainables.verdict import Verdict


class BaselineTrial:
    """The trial without an adapter; it has the interface of `Trial`."""

    step = 0

    def __init__(self, engine: Engine, spec: TrialSpec, record: Record) -> None:
        self.engine, self.record = engine, record
        write_placement(record, resolve(spec.placement, engine.base.towers), spec)

    def advance(self, stop_requested: Callable[[], bool]) -> Verdict | None:
        """Evaluate the base on the rows of every eval and of the reserve, and close the record."""
        if stop_requested():
            return None
        PhaseFile(self.record.directory).show("eval")
        began = time.perf_counter()
        measured = eval_integrity.measure(self.engine.evaluator, None, 0)
        scores = measured.scores
        self.record.forget_after(-1)
        finding = eval_controls.judge_bare(0, self.engine.base.model)
        finding = finding or judge_metrics(0, scores.metrics) or measured.finding
        asked = ask_all(self.engine.evaluator, eval_measurement(0, scores))
        finding = finding or asked.finding
        if finding:
            self.record.close(finding.verdict())
            return finding.verdict()
        not_trained = dict.fromkeys(
            ("train_seconds", "adapter_parameters", *(f"adapter_norm_{one}" for one in TOWERS)), 0.0
        )
        seconds, memory = time.perf_counter() - began, peak_memory_mb(self.engine.base.device)
        cost = {"eval_seconds": seconds, "peak_memory_mb": memory, "base_memory_mb": self.engine.base.megabytes}
        self.record.append(Measurement("train", 0, not_trained | cost))
        self.record.append(asked.measurement)
        self.record.write_samples(0, self.engine.evaluator.samples({**measured.answers, **asked.answers}))
        verdict = Verdict(kind="completed", step=0)
        self.record.close(verdict)
        return verdict

    def remove(self) -> None:
        """Do nothing: a baseline has no adapter."""

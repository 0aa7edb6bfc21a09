"""One trial on an engine: begins or resumes it, then trains, evaluates and checkpoints until it has a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from trainables.checkpoints.compatibility import load_parent
from trainables.checkpoints.lineage import lineage_in
from trainables.checkpoints.provenance import describe_best, peak_memory_mb, write_placement
from trainables.constraint import Constraint, best_eval
from trainables.data.encoding import Batch
from trainables.decision import Guard
from trainables.engine import Engine
from trainables.guards import judge
from trainables.health import eval_controls, eval_integrity
from trainables.health.checks import Finding, judge_metrics
from trainables.health.criteria import labels
from trainables.health.eval_controls import ControlEvaluator
from trainables.health.eval_integrity import Measured
from trainables.health.monitor import HealthMonitor
from trainables.io.files import read_json, write_json
from trainables.measurement import eval_measurement
from trainables.model.lora import place
from trainables.model.optimizer import Optimizer
from trainables.model.placement import resolve
from trainables.phase import PhaseFile
from trainables.probes.probe import Baseline
from trainables.record import ADAPTERS, Keep, Measurement, Record
from trainables.schedule import next_eval
from trainables.selftest.run import SelfTest, uniform_loss
from trainables.spec import TrialSpec
from trainables.training.answered import Answered
from trainables.training.asking import ask_for_guards
from trainables.training.baseline import BaselineTrial
from trainables.training.gradients import backward_alone
from trainables.training.memory_fit import MemoryFit
from trainables.training.progress import Progress
from trainables.training.resuming import resumable_step
from trainables.verdict import Verdict

KEPT_CHECKPOINTS, LABELS = 2, "labels.json"


class Trial:
    """A trial that trains an adapter; `advance` runs it up to its next eval."""

    def __init__(  # noqa: PLR0913, PLR0917 what a trial needs, and nothing else
        self,
        engine: Engine,
        spec: TrialSpec,
        record: Record,
        baseline: Baseline,
        guards: Sequence[Guard],
        constraint: Constraint,
        selftest: SelfTest | None = None,
        keep: Keep = "all",
    ) -> None:
        self.engine, self.spec, self.record, self.phase = engine, spec, record, PhaseFile(record.directory)
        self.baseline, self.guards, self.constraint, self.keep = baseline, guards, constraint, keep
        self.placement = resolve(spec.placement, engine.base.towers, spec.target_modules)
        self.adapter = place(engine.base, spec, self.placement)
        with ExitStack() as cleanup:
            cleanup.callback(self.adapter.remove)  # if the trial cannot start
            self.optimizer, self.selftest = Optimizer(self.adapter, spec), selftest
            self.progress, self.answered = Progress(), Answered(engine.evaluator, record, baseline)
            self.memory = MemoryFit.of(engine, spec, record)
            write_placement(record, self.placement, spec)
            resumed = self._start()
            losses = uniform_loss(engine), baseline.metrics["eval_loss"]
            self.monitor = HealthMonitor(self.adapter, self.optimizer, *losses)
            if resumed:
                self.monitor.load(resumed)
            self.rows = engine.row_stream(spec, self.progress.step)
            cleanup.pop_all()

    @property
    def step(self) -> int:
        """Return the number of completed optimizer steps."""
        return self.progress.step

    @property
    def boundary(self) -> int:
        """Return the step of the next eval."""
        return next_eval(self.progress.step, self.spec.last_step, self.spec.eval_every_steps)

    def advance(self, stop_requested: Callable[[], bool]) -> Verdict | None:
        """Train to the next eval, evaluate and checkpoint; return the verdict if the trial ended.

        The first call runs the self-test before training. If `stop_requested` returns true between two steps, the trial
        checkpoints there and returns None.
        """
        verdict, boundary = self.check_before_training(), self.boundary
        while verdict is None and self.progress.step < boundary:
            if stop_requested():
                self.checkpoint()
                return None
            verdict = self._train_step()
        return verdict or self._evaluate()

    def check_before_training(self) -> Verdict | None:
        """Run the guards, the self-test and the first eval of a continued trial; close the trial if one ends it.

        On resume the guards run again: the process may have been killed before it wrote a verdict of the last eval.
        """
        verdict = self._judge() or self._run_selftest() or self._first_eval()
        return self.close(verdict) if verdict else None

    def finish_step(self, loss: float, has_images: bool, seconds: float) -> Verdict | None:
        """Update the weights from the gradients of a step; close the trial if a health check ends it.

        `loss` is the mean in nats per supervised token, `seconds` the duration of forward and backward.
        """
        began = time.perf_counter()
        progress = self.progress
        self.monitor.see_gradients(has_images)
        norm = self.optimizer.step(progress.step)
        progress.step += 1
        self.phase.show("training", progress.step)
        progress.train_seconds += seconds + time.perf_counter() - began
        if finding := self.monitor.after_step(progress.step, loss, norm):
            return self.close(finding.verdict())
        progress.interval_losses += (loss,)
        progress.interval_norms += (norm,)
        return None

    def finish_eval(self, measured: Measured, controls: ControlEvaluator, seconds: float) -> Verdict | None:
        """Record one eval and checkpoint; close the trial if a health check, a guard or the last step ends it."""
        began = time.perf_counter()
        metrics, step, progress = measured.scores.metrics, self.progress.step, self.progress
        finding = judge_metrics(step, metrics) or measured.finding
        finding = finding or self.monitor.after_eval(step, metrics["eval_loss"])
        if finding is None and step == self.spec.steps:
            finding = eval_controls.judge_nonsense(step, controls)
            finding = finding or eval_controls.judge_null(step, controls, self.adapter, measured.answers, self.baseline)
        if finding is None:
            self.record.append(Measurement("train", step, self._interval_metrics()))
            finding = self._record_eval(measured, controls)
        progress.eval_seconds += seconds + time.perf_counter() - began
        if finding:
            return self.close(finding.verdict())
        self.checkpoint()
        verdict = self._judge()
        return self.close(verdict) if verdict else None

    def checkpoint(self) -> None:
        """Save the state of the trial, so that a resumed trial equals an uninterrupted one."""
        step = self.progress.step
        with self.record.saving(f"checkpoints/step-{step}") as directory:
            self.adapter.save(directory)
            self.optimizer.save(directory)
            self.monitor.save(directory)
            write_json(directory / "progress.json", vars(self.progress))
        self.record.keep_checkpoints(KEPT_CHECKPOINTS)

    def remove(self) -> None:
        """Remove the adapter from the base."""
        self.adapter.remove()

    # ---------------------------------------------------------------- start
    def _start(self) -> Path | None:
        step = resumable_step(self.record, self.spec, self.constraint, self.baseline.metrics)
        if step is not None:
            return self._resume(step)
        self.record.forget_after(-1)  # measurements without a checkpoint to resume from
        if self.spec.init_from:
            load_parent(self.spec.init_from.path, self.spec, self.adapter, self.optimizer, self.record)
        return None

    def _resume(self, step: int) -> Path:
        directory = self.record.checkpoint(step)
        self.adapter.load(directory)
        if step > 0 or self.spec.optimizer == "resumed":
            self.optimizer.load(directory)
        self.progress = Progress(**read_json(directory / "progress.json"))
        self.record.forget_after(step)
        return directory

    def _run_selftest(self) -> Verdict | None:
        selftest, self.selftest = self.selftest, None  # once is enough for an opened trial
        if selftest is None:
            return None
        self.phase.show("self-test", self.progress.step)
        proved = (self.spec, self.record, self.adapter, self.optimizer, self.progress.step)
        finding = self.memory.tested(lambda: selftest.prove(*proved))
        if finding is not None and finding.level == "degraded":
            self.monitor.note(finding)
            return None
        return finding.verdict() if finding else None

    def _first_eval(self) -> Verdict | None:
        """Evaluate a continued adapter before it trains, as the reference for forgetting."""
        if self.spec.init_from is None or self.progress.step > 0 or self.record.evals():
            return None
        self.phase.show("eval")
        began = time.perf_counter()
        measured = eval_integrity.measure(self.engine.evaluator, self.baseline, 0, self.answered.drafts)
        self.progress.eval_seconds += time.perf_counter() - began
        finding = judge_metrics(0, measured.scores.metrics) or measured.finding
        finding = finding or self._record_eval(measured, self.engine.evaluator)
        return finding.verdict() if finding else self._judge()

    # ---------------------------------------------------------------- one step
    def _train_step(self) -> Verdict | None:
        began = time.perf_counter()
        batches = self.engine.batches(self.rows, self.spec, self.progress.step)
        loss = self.backward(batches)
        has_images = any("pixel_values" in batch.inputs for batch in batches)
        return self.finish_step(loss, has_images, time.perf_counter() - began)

    def backward(self, batches: Sequence[Batch]) -> float:
        """Add up the gradients of a step of this trial alone, in passes that fit the memory; return its loss.

        Raises:
            torch.OutOfMemoryError: not even the smallest pass fits.
        """
        lines, step = max(len(batch.labels) for batch in batches), self.progress.step
        work = partial(backward_alone, self.engine, self.adapter, step, batches)
        return self.memory.run(step, lines, work, self.optimizer.forget_gradients)

    def _evaluate(self) -> Verdict | None:
        self.phase.show("eval", self.progress.step)
        began = time.perf_counter()
        measured = eval_integrity.measure(self.engine.evaluator, self.baseline, self.step, self.answered.drafts)
        return self.finish_eval(measured, self.answered.controls, time.perf_counter() - began)

    # ---------------------------------------------------------------- eval
    def _record_eval(self, measured: Measured, member: ControlEvaluator) -> Finding | None:
        step, scores, evaluator = self.progress.step, measured.scores, self.engine.evaluator
        evals = [one for one in self.record.evals() if one.step < step]
        evals.append(eval_measurement(step, scores))
        asked = ask_for_guards(evaluator, member, self.guards, self.baseline, evals)
        if asked.finding:
            return asked.finding
        self.answered.add({**measured.tokens, **asked.tokens})
        if self.keep == "all":
            with self.record.saving(f"{ADAPTERS}/step-{step}") as directory:
                self.adapter.save(directory)
        self.record.append(asked.measurement)
        self.record.write_samples(step, evaluator.samples({**measured.answers, **asked.answers}))
        best = best_eval(self.constraint, self.baseline.metrics, self.record.evals())
        if best is not None and best.step == step:
            self._save_best(best)
        return None

    def _judge(self) -> Verdict | None:
        evals, step = self.record.evals(), self.progress.step
        if not evals or evals[-1].step != step:
            return None  # the last eval was at an earlier step
        verdict = judge(self.guards, self.baseline, evals)
        if verdict is None and step == self.spec.last_step:
            verdict = Verdict(kind="completed", step=step)
        return verdict

    def _interval_metrics(self) -> dict[str, float]:
        progress, losses, norms = self.progress, self.progress.interval_losses, self.progress.interval_norms
        progress.interval_losses, progress.interval_norms = (), ()
        return {
            "step_loss": sum(losses) / len(losses),
            "gradient_norm": sum(norms) / len(norms),
            "adapter_parameters": float(self.placement.total_parameters(self.spec.rank)),
            **self.monitor.metrics(),
            "train_seconds": progress.train_seconds,
            "eval_seconds": progress.eval_seconds,
            "peak_memory_mb": peak_memory_mb(self.engine.base.device),
            "base_memory_mb": self.engine.base.megabytes,
        }

    def _save_best(self, best: Measurement) -> None:
        with self.record.saving("best") as directory:
            self.adapter.save(directory)
            self.optimizer.save(directory)
            known, device = {"labels": self._labels(), "lineage": lineage_in(self.record)}, self.engine.base.device
            describe_best(directory, self.spec, self.placement, best, self.baseline, device, known)

    def _labels(self) -> dict[str, Any]:
        return labels(self.baseline.metrics, self.record.measurements(), self.monitor.degraded)

    def close(self, verdict: Verdict) -> Verdict:
        """Write the labels, if the trial has a result, then the verdict; return the verdict."""
        if verdict.kind in ("completed", "pruned"):
            write_json(self.record.directory / LABELS, self._labels())
        self.record.close(verdict)
        return verdict


def open_trial(  # noqa: PLR0913, PLR0917 as Trial
    engine: Engine, spec: TrialSpec, record: Record, baseline: Baseline | None, guards: Sequence[Guard],
    constraint: Constraint, selftest: SelfTest | None = None, keep: Keep = "all",
) -> Trial | BaselineTrial:  # fmt: skip
    """Open the trial of `spec` on `engine`; a trial that trains needs `baseline`, and runs `selftest` if given."""
    if spec.placement.is_baseline:
        return BaselineTrial(engine, spec, record)
    if baseline is None:
        raise ValueError(f"trial {spec.name} needs the baseline's metrics, but there are none")
    return Trial(engine, spec, record, baseline, guards, constraint, selftest, keep)

"""One trial on an engine: place, train, eval, guard, checkpoint, until a verdict."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from trainables.adapters import check_continues, place
from trainables.batches import collate, data_order
from trainables.engine import Engine
from trainables.evaluate import label_logits
from trainables.guards import BestConstraint, Guard, best_eval, judge
from trainables.optim import OPTIMIZER_WEIGHTS, Optimizer
from trainables.placement import ResolvedPlacement, resolve
from trainables.probes.probe import Baseline
from trainables.provenance import describe_best, peak_memory_mb
from trainables.record import Measurement, Record, Verdict, read_json, write_json
from trainables.spec import TrialSpec
from trainables.towers import TOWERS

KEPT_CHECKPOINTS = 2


@dataclass
class Progress:
    """Where a trial stands; all of it is in a checkpoint, so a resumed trial equals an uninterrupted one."""

    step: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    interval_losses: tuple[float, ...] = ()
    interval_norms: tuple[float, ...] = ()


class Trial:
    """A training trial; `advance` takes it to its next eval."""

    def __init__(
        self,
        engine: Engine,
        spec: TrialSpec,
        record: Record,
        baseline: Baseline,
        guards: Sequence[Guard],
        constraint: BestConstraint,
    ) -> None:
        self.engine, self.spec, self.record = engine, spec, record
        self.baseline, self.guards, self.constraint = baseline, guards, constraint
        self.placement = resolve(spec.placement, engine.base.towers)
        self.adapter = place(engine.base, spec, self.placement)
        self.optimizer = Optimizer(self.adapter, spec)
        self.progress = Progress()
        _write_placement(record, self.placement, spec)
        self._start()
        self.rows = self._row_stream()

    @property
    def step(self) -> int:
        """Return how many optimizer steps are done."""
        return self.progress.step

    def advance(self, stop_requested: Callable[[], bool]) -> Verdict | None:
        """Train to the next eval, measure, guard, checkpoint; returns the verdict when there is one.

        When `stop_requested` turns true between two steps, the trial checkpoints there and returns None.
        """
        owed = self._judge()
        if owed:  # the process was killed between the checkpoint of an eval and its verdict
            return self._close(owed)
        spec, progress = self.spec, self.progress
        boundary = min(spec.steps, (progress.step // spec.eval_every_steps + 1) * spec.eval_every_steps)
        while progress.step < boundary:
            if stop_requested():
                self._checkpoint()
                return None
            broken = self._train_step()
            if broken:
                return self._close(broken)
        broken = self._evaluate()
        if broken:
            return self._close(broken)
        self._checkpoint()
        verdict = self._judge()
        return self._close(verdict) if verdict else None

    def remove(self) -> None:
        """Give the base back as it was."""
        self.adapter.remove()

    # ---------------------------------------------------------------- start
    def _start(self) -> None:
        steps = self.record.checkpoint_steps()
        if steps:
            self._resume(steps[0])
            return
        self.record.forget_after(-1)  # measured by a run of which no checkpoint is left
        if self.spec.init_from:
            parent = self.spec.init_from.path
            check_continues(parent, self.spec)
            self.adapter.load(parent)
            if self.spec.optimizer == "resumed":
                self.optimizer.load(parent)

    def _resume(self, step: int) -> None:
        directory = self.record.checkpoint(step)
        self.adapter.load(directory)
        if step > 0 or self.spec.optimizer == "resumed":
            self.optimizer.load(directory)
        self.progress = Progress(**read_json(directory / "progress.json"))
        self.record.forget_after(step)

    def _row_stream(self) -> Iterator[int]:
        done = self.progress.step * self.spec.effective_rows
        return itertools.islice(data_order(len(self.engine.train), self.spec.data_seed), done, None)

    # ---------------------------------------------------------------- train
    def _train_step(self) -> Verdict | None:
        began = time.perf_counter()
        spec, progress, engine = self.spec, self.progress, self.engine
        indices = list(itertools.islice(self.rows, spec.effective_rows))
        encoded = [engine.encode(index, spec.max_tokens) for index in indices]
        micro = [encoded[start : start + spec.batch_rows] for start in range(0, len(encoded), spec.batch_rows)]
        batches = [collate(rows, engine.encoder, engine.base.device, pad_left=False) for rows in micro]
        # the mean over all supervised tokens of the step, whatever the accumulation
        tokens = sum(batch.supervised_tokens for batch in batches)
        loss_sum = 0.0
        engine.base.model.train()
        for number, batch in enumerate(batches):
            torch.manual_seed(_dropout_seed(spec.seed, progress.step, number))
            logits, targets = label_logits(engine.base, batch)
            loss = cross_entropy(logits, targets, reduction="sum") / tokens
            loss.backward()
            loss_sum += float(loss.detach())
        norm = self.optimizer.step(progress.step)
        engine.base.model.eval()
        progress.step += 1
        progress.train_seconds += time.perf_counter() - began
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            return _not_finite(progress.step, loss_sum, norm)
        progress.interval_losses += (loss_sum,)
        progress.interval_norms += (norm,)
        return None

    # ---------------------------------------------------------------- eval
    def _evaluate(self) -> Verdict | None:
        began = time.perf_counter()
        progress = self.progress
        metrics, answers = self.engine.evaluator.measure(self.baseline)
        progress.eval_seconds += time.perf_counter() - began
        step = progress.step
        if not all(map(math.isfinite, metrics.values())):
            return _not_finite_eval(step, metrics)
        self.record.append(Measurement("train", step, self._interval_metrics()))
        self.record.append(Measurement("eval", step, metrics))
        self.record.write_samples(step, self.engine.evaluator.samples(answers))
        best = best_eval(self.constraint, self.baseline.metrics, self.record.evals())
        if best is not None and best.step == step:
            self._save_best(best)
        return None

    def _judge(self) -> Verdict | None:
        evals, step = self.record.evals(), self.progress.step
        if not evals or evals[-1].step != step:
            return None  # between two evals
        verdict = judge(self.guards, self.baseline.metrics, evals)
        if verdict is None and step == self.spec.steps:
            verdict = Verdict(kind="completed", step=step)
        return verdict

    def _interval_metrics(self) -> dict[str, float]:
        progress = self.progress
        losses, norms = progress.interval_losses, progress.interval_norms
        progress.interval_losses, progress.interval_norms = (), ()
        return {
            "step_loss": sum(losses) / len(losses),
            "gradient_norm": sum(norms) / len(norms),
            "adapter_parameters": float(self.placement.total_parameters(self.spec.rank)),
            "train_seconds": progress.train_seconds,
            "eval_seconds": progress.eval_seconds,
            "peak_memory_mb": peak_memory_mb(self.engine.base.device),
        }

    # ---------------------------------------------------------------- save
    def _checkpoint(self) -> None:
        step = self.progress.step
        with self.record.saving(f"checkpoints/step-{step}") as directory:
            self.adapter.save(directory)
            self.optimizer.save(directory)
            write_json(directory / "progress.json", vars(self.progress))
        self.record.keep_checkpoints(KEPT_CHECKPOINTS)

    def _save_best(self, best: Measurement) -> None:
        with self.record.saving("best") as directory:
            self.adapter.save(directory)
            self.optimizer.save(directory)
            describe_best(directory, self.spec, self.placement, best, self.baseline, self.engine.base.device)

    def _close(self, verdict: Verdict) -> Verdict:
        self.record.close(verdict)
        return verdict


class BaselineTrial:
    """The trial with no adapter: measures the base once, the reference of every other trial."""

    step = 0

    def __init__(self, engine: Engine, spec: TrialSpec, record: Record) -> None:
        self.engine, self.record = engine, record
        _write_placement(record, resolve(spec.placement, engine.base.towers), spec)

    def advance(self, stop_requested: Callable[[], bool]) -> Verdict | None:
        """Measure the base and close the record."""
        if stop_requested():
            return None
        began = time.perf_counter()
        metrics, answers = self.engine.evaluator.measure(None)
        self.record.forget_after(-1)
        seconds = {"eval_seconds": time.perf_counter() - began, "train_seconds": 0.0, "adapter_parameters": 0.0}
        memory = {"peak_memory_mb": peak_memory_mb(self.engine.base.device)}
        self.record.append(Measurement("train", 0, {**seconds, **memory}))
        self.record.append(Measurement("eval", 0, metrics))
        self.record.write_samples(0, self.engine.evaluator.samples(answers))
        verdict = Verdict(kind="completed", step=0)
        self.record.close(verdict)
        return verdict

    def remove(self) -> None:
        """Nothing was placed."""


def open_trial(
    engine: Engine,
    spec: TrialSpec,
    record: Record,
    baseline: Baseline | None,
    guards: Sequence[Guard],
    constraint: BestConstraint,
) -> Trial | BaselineTrial:
    """Open `spec` on `engine`; a training trial needs the baseline it is held against."""
    if spec.placement.is_baseline:
        return BaselineTrial(engine, spec, record)
    if baseline is None:
        raise ValueError(f"trial {spec.name} needs the baseline's metrics, but there are none")
    return Trial(engine, spec, record, baseline, guards, constraint)


def _dropout_seed(seed: int, step: int, micro_step: int) -> int:
    # keyed by trial and step, not by what ran before: a resumed or reused process draws the same masks
    return (seed * 1_000_003 + step) * 1_009 + micro_step


def _not_finite(step: int, loss: float, norm: float) -> Verdict:
    cause = "non_finite_loss" if not math.isfinite(loss) else "non_finite_gradient"
    return Verdict(kind="invalid", step=step, cause=cause, reason=f"loss {loss}, gradient norm {norm} at step {step}")


def _not_finite_eval(step: int, metrics: Mapping[str, float]) -> Verdict:
    broken = ", ".join(f"{name} {value}" for name, value in metrics.items() if not math.isfinite(value))
    return Verdict(kind="invalid", step=step, cause="non_finite_eval", reason=f"{broken} at step {step}")


def _write_placement(record: Record, placement: ResolvedPlacement, spec: TrialSpec) -> None:
    resolved: dict[str, Any] = {
        tower: {
            "modules": [linear.name for linear in placement.linears[tower]],
            "parameters": placement.parameters(tower, spec.rank),
        }
        for tower in TOWERS
    }
    write_json(record.directory / "placement.json", resolved)


__all__ = ["OPTIMIZER_WEIGHTS", "BaselineTrial", "Progress", "Trial", "open_trial"]

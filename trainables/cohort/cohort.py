"""A cohort: trials that train together on one base, with the same results as training each alone.

The trials use the same batches. A forward and backward pass computes as many trials as the cut allows. Each trial has
its own clipping, rate, AdamW, health checks, guards and record, so a trial that ends does not affect the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from trainables.cohort.calibration import Calibration
from trainables.cohort.calibration_memory import CalibrationMemory, CohortShape
from trainables.cohort.choosing import StepChoice
from trainables.cohort.cuts import Cut, Member, narrower, passes
from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.sequential import on_base
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.frozen.keeping_file import write_keeping
from trainables.frozen.kept import KeptActivations
from trainables.frozen.worth import ALWAYS, Keeping
from trainables.health.eval_integrity import Measured
from trainables.memory_file import WHOLE, Fit
from trainables.phase import PhaseName
from trainables.sharing_keys import cohort_key
from trainables.training.batch_parts import parts_of
from trainables.training.failures import infeasible, memory_errors
from trainables.training.gradients import backward_alone
from trainables.training.memory_fit import release
from trainables.training.trial import Trial
from trainables.verdict import Verdict


class Cohort:
    """Opened trials on one engine; their adapters are removed from the base and applied in shared passes.

    `cut` says which trials share a pass; with None the fastest is measured before the first step (`calibration`).

    Raises:
        ValueError: the trials differ in data order, batch shape or step, or their family has no shared forward.
    """

    def __init__(self, engine: Engine, trials: Sequence[Trial], cut: Cut | None = None, share: bool = True) -> None:
        keys = {(cohort_key(trial.spec), trial.step) for trial in trials}
        if len(keys) != 1:
            raise ValueError(
                f"trials of a cohort must have equal data order, batch shape and step, but {len(keys)} differ"
            )
        self.engine, self.trials, self.cut, self.share = engine, list(trials), cut, share
        self.calibration: Calibration | None = None
        self.clock = time.perf_counter  # of the calibration
        self.memory: CalibrationMemory | None = None  # with one, a shape is measured once on a machine
        self.shape: CohortShape | None = None
        self.keeping: Keeping | None = ALWAYS  # None to decide before the first step
        self.costs_memory: CalibrationMemory | None = None  # as `memory`, of what steps take
        self.eval_width = len(trials)  # members evaluated in one pass
        for trial in trials:
            trial.adapter.remove()
        self.rows = engine.row_stream(trials[0].spec, trials[0].step)
        self.ended: dict[int, Verdict] = {}
        self._set_members(self.trials)

    @property
    def active(self) -> list[int]:
        """Return the numbers of the members that have not ended."""
        return [number for number in range(len(self.trials)) if number not in self.ended]

    def advance(self, stop_requested: Callable[[], bool]) -> dict[str, Verdict]:
        """Train all members to their next eval and evaluate; return the verdicts of those that ended, by trial id.

        If `stop_requested` returns true between two steps, all members checkpoint there. Ended trials leave the cohort.
        """
        boundary = self.trials[0].boundary
        self._show("training")
        while self.active and self.trials[self.active[0]].step < boundary:
            if stop_requested():
                for number in self.active:
                    self.trials[number].checkpoint()
                return self._remove_ended()
            self._train_step()
        self._show("eval")
        self._evaluate()
        return self._remove_ended()

    def leave(self, trial_id: str) -> None:
        """Remove a trial from the cohort after an eval; its newest checkpoint remains."""
        self._set_members([trial for trial in self.trials if trial.spec.trial_id != trial_id])

    def remove(self) -> None:
        """Remove all hooks from the base."""
        self.shared.remove()

    # ---------------------------------------------------------------- train
    def _train_step(self) -> None:
        began = time.perf_counter()
        try:
            batches = self.engine.batches(self.rows, self.trials[0].spec, self.trials[self.active[0]].step)
        except UserError as error:  # a row that cannot be encoded, so no trial can continue
            for number in self.active:
                self._end(number, error)
            return
        if self.keeping is None or self.cut is None:
            self.cut = self._chosen(batches)
            began = time.perf_counter()
        self._use(self.engine.kept if self.keeping and self.keeping.training else None)
        losses: dict[int, float] = {}
        for numbers in self._fitting_passes(self.cut):
            losses |= self._backward_or_split(numbers, batches)
        seconds = (time.perf_counter() - began) / max(1, len(losses))
        has_images = any("pixel_values" in batch.inputs for batch in batches)
        for number, loss in losses.items():
            verdict = self.trials[number].finish_step(loss, has_images, seconds)
            if verdict:
                self.ended[number] = verdict

    def _chosen(self, batches: Sequence[Batch]) -> Cut:
        seconds, show = partial(self._seconds, batches=batches), partial(self._show, "calibration")
        common = (self.engine, self.trials[0].spec, self._members(), batches)
        choice = StepChoice(*common, seconds, self._use, show, self.memory, self.costs_memory, self.cut)
        if self.keeping is None:
            self.keeping = choice.keeping()
            for number in self.active:
                write_keeping(self.trials[number].record.directory, self.keeping)
        cut = choice.cut(self.keeping.training and self.share)
        self.calibration, self.shape = choice.calibration, choice.shape
        return cut

    def _use(self, kept: KeptActivations | None) -> None:
        self.shared.kept = kept if self.share else None

    def _fitting_passes(self, cut: Cut) -> Iterator[list[int]]:
        """Yield the members of each pass; one that did not fit alone with whole batches has a pass of its own."""
        for numbers in passes(self._members(), cut):
            whole = [one for one in numbers if not self.trials[one].memory.fit.is_smaller]
            yield from filter(None, [whole, *([one] for one in numbers if one not in whole)])

    def _backward_or_split(self, numbers: list[int], batches: Sequence[Batch]) -> dict[int, float]:
        if len(numbers) == 1:
            return self._backward_one(numbers[0], batches)
        try:
            with memory_errors():
                return self._backward(numbers, batches)
        except torch.OutOfMemoryError as error:
            reason = str(error).strip().splitlines()[0]
        self._forget_gradients(numbers)
        release(self.engine.base.device)
        for number in numbers:
            self.trials[number].memory.note_split(self.trials[number].step, len(numbers), reason)
        self.cut = narrower(self.cut, len(numbers))
        if self.memory is not None and self.shape is not None:
            self.memory.forget(self.shape)
        half = len(numbers) // 2
        return {
            **self._backward_or_split(numbers[:half], batches),
            **self._backward_or_split(numbers[half:], batches),
        }

    def _backward_one(self, number: int, batches: Sequence[Batch]) -> dict[int, float]:
        trial, lines = self.trials[number], max(len(batch.labels) for batch in batches)
        try:
            forget = trial.optimizer.forget_gradients
            work = lambda fit: self._backward([number], batches, fit)[number]  # noqa: E731
            return {number: trial.memory.run(trial.step, lines, work, forget)}
        except torch.OutOfMemoryError as error:
            self._end(number, error)
            return {}

    def _backward(self, numbers: Sequence[int], batches: Sequence[Batch], fit: Fit = WHOLE) -> dict[int, float]:
        if (
            fit.checkpointing
        ):  # hooks in the layers would run a second time, when the pass is over; so the member is alone
            trial = self.trials[numbers[0]]
            with on_base(self.engine.base, trial):
                return {numbers[0]: backward_alone(self.engine, trial.adapter, trial.step, batches, fit)}
        # the loss of a trial is the mean over all supervised tokens of the step, independent of other trials
        tokens = sum(batch.supervised_tokens for batch in batches)
        losses = dict.fromkeys(numbers, 0.0)
        every = [
            (micro_step, part)
            for micro_step, batch in enumerate(batches)
            for part in parts_of(batch, fit.parts, self.engine.encoder, self.engine.base)
        ]
        with self.shared.lora.in_training(), self._masks_restored(numbers):
            for micro_step, part in every:
                for number in numbers:
                    masks = self.trials[number].adapter.masks
                    masks.step, masks.micro_step, masks.shares = self.trials[number].step, micro_step, part.shares
                out = self.shared.logits(part.batch, numbers)
                means = [cross_entropy(one, out.targets, reduction="sum") / tokens for one in out.values]
                reached = [one for one in means if one.requires_grad]
                if reached:
                    torch.stack(reached).sum().backward()
                for group, mean in zip(out.groups, means, strict=True):
                    for number in group:
                        losses[number] += float(mean.detach())
        return losses

    @contextmanager
    def _masks_restored(self, numbers: Sequence[int]) -> Iterator[None]:
        try:
            yield
        finally:
            for number in numbers:
                self.trials[number].adapter.masks.shares = None

    def _seconds(self, numbers: Sequence[int], batches: Sequence[Batch]) -> float | None:
        # runs a pass without an update; None if the device has too little memory
        try:
            began = self.clock()
            with memory_errors():
                self._backward(numbers, batches)
            if self.engine.base.device.type == "cuda":
                torch.cuda.synchronize(self.engine.base.device)
            return self.clock() - began
        except torch.OutOfMemoryError:
            return None
        finally:
            self._forget_gradients(numbers)

    def _forget_gradients(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.trials[number].optimizer.forget_gradients()

    def _end(self, number: int, error: Exception) -> None:
        trial = self.trials[number]
        self.ended[number] = trial.close(infeasible(error, trial.step))

    # ---------------------------------------------------------------- eval
    def _evaluate(self) -> None:
        self._use(self.engine.kept if self.keeping is None or self.keeping.evals else None)
        for numbers, measured, seconds in self._measured():
            for number in numbers:
                trial = self.trials[number]
                controls = self.evaluator.asking(number, trial.answered.outside)
                verdict = trial.finish_eval(measured[number], controls, seconds / len(numbers))
                if verdict:
                    self.ended[number] = verdict

    def _measured(self) -> Iterator[tuple[list[int], dict[int, Measured], float]]:
        remaining = self.active
        while remaining:
            numbers, began = remaining[: self.eval_width], time.perf_counter()
            baselines = {number: self.trials[number].baseline for number in numbers}
            try:
                drafts = {number: self.trials[number].answered.drafts for number in numbers}
                with memory_errors():
                    measured = self.evaluator.measure(baselines, self.trials[numbers[0]].step, drafts)
            except torch.OutOfMemoryError as error:
                if len(numbers) > 1:
                    self.eval_width = len(numbers) // 2
                    continue
                self._end(numbers[0], error)
            else:
                yield numbers, measured, time.perf_counter() - began
            remaining = remaining[len(numbers) :]

    # ---------------------------------------------------------------- members
    def _show(self, phase: PhaseName) -> None:
        for number in self.active:
            self.trials[number].phase.show(phase, self.trials[number].step)

    def _members(self) -> list[Member]:
        return [Member.of(number, self.trials[number].spec, self.engine.base) for number in self.active]

    def _remove_ended(self) -> dict[str, Verdict]:
        ended = {self.trials[number].spec.trial_id: verdict for number, verdict in self.ended.items()}
        if ended:
            self._set_members([self.trials[number] for number in self.active])
        return ended

    def _set_members(self, trials: list[Trial]) -> None:
        if hasattr(self, "shared"):
            self.shared.remove()
        self.trials, self.ended = trials, {}
        adapters = [trial.adapter for trial in trials]
        self.shared = SharedForward(self.engine.base, adapters, self.share, self.engine.kept)
        self.evaluator = CohortEvaluator(self.engine.evaluator, self.shared)

"""Trains trials one after another on the loaded base, for families whose trials cannot share passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from trainables.engine import Engine
from trainables.model.base import Base
from trainables.model.dropout import KeyedDropout
from trainables.model.lora import place
from trainables.training.failures import InputErrors, infeasible, memory_errors
from trainables.training.trial import Trial
from trainables.verdict import Verdict


class SequentialCohort:
    """Opened trials on one engine, with the interface of `Cohort`; only one adapter is on the base at a time.

    The results equal those of training each trial alone. Adapter tensors and optimizers stay in memory between evals.
    """

    def __init__(self, engine: Engine, trials: Sequence[Trial]) -> None:
        self.engine, self.trials = engine, list(trials)
        self.remove()

    def advance(self, stop_requested: Callable[[], bool]) -> dict[str, Verdict]:
        """Train each trial to its next eval and evaluate; return the verdicts of those that ended, by trial id.

        If `stop_requested` returns true between two steps, each trial that has not reached its eval checkpoints.
        """
        ended: dict[str, Verdict] = {}
        for trial in self.trials:
            verdict = self._advance(trial, stop_requested)
            if verdict is not None:
                ended[trial.spec.trial_id] = verdict
        self.trials = [trial for trial in self.trials if trial.spec.trial_id not in ended]
        return ended

    def leave(self, trial_id: str) -> None:
        """Remove a trial from the cohort after an eval; its newest checkpoint remains."""
        self.trials = [trial for trial in self.trials if trial.spec.trial_id != trial_id]

    def remove(self) -> None:
        """Remove all adapters from the base."""
        for trial in self.trials:
            trial.adapter.remove()

    def _advance(self, trial: Trial, stop_requested: Callable[[], bool]) -> Verdict | None:
        with on_base(self.engine.base, trial):
            try:
                with memory_errors():
                    return trial.advance(stop_requested)
            except InputErrors as error:
                return trial.close(infeasible(error, trial.step))


@contextmanager
def on_base(base: Base, trial: Trial) -> Iterator[None]:
    """Place the adapter of an opened trial on the base again: new PEFT layers with its existing tensors and masks."""
    adapter, own = trial.adapter, dict(trial.adapter.trained())
    fresh = place(base, trial.spec, trial.placement)
    for name, _ in fresh.trained():
        module, _, parameter = name.rpartition(".")
        setattr(fresh.peft_model.get_submodule(module), parameter, own[name])
    for module in fresh.peft_model.modules():
        if isinstance(module, KeyedDropout):
            module.masks = adapter.masks
    adapter.peft_model, adapter.live = fresh.peft_model, True
    try:
        yield
    finally:
        adapter.remove()

"""Opens and trains the cohort of an engine. All methods run on the engine's training thread, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainables.frozen.settings import OFF, CacheSettings
from trainables.record import Record
from trainables.verdict import Verdict
from trainables.workers.protocol import Request
from trainables.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from trainables.training.trial import Trial
    from trainables.workers.engine_cache import EngineCache


class TrialGroup(Protocol):
    """Trials that train on one base, together or one after another."""

    @property
    def trials(self) -> Sequence[Trial]:
        """Return the trials that still train."""
        ...

    def advance(self, stop_requested: Callable[[], bool]) -> Mapping[str, Verdict]:
        """Train every trial to its next eval; return the verdicts of those that ended, by trial id."""
        ...

    def leave(self, trial_id: str) -> None:
        """Remove a trial after an eval."""
        ...

    def remove(self) -> None:
        """Remove the trials from the base."""
        ...


@dataclass
class CohortRunner:
    """Keeps the base in memory, with at most one cohort on it; `threads` is the number of torch threads.

    `kept` says where activations of frozen layers are kept, `sharing_launch` names the launch whose engines on this
    node use the memory of the base together; it is empty if this one does not.
    """

    threads: int
    stop_file: Path
    cache: EngineCache | None = None
    cohort: TrialGroup | None = None
    watchdog: Watchdog = field(default_factory=Watchdog)
    kept: CacheSettings = OFF
    sharing_launch: str = ""

    @property
    def engine_key(self) -> tuple[str, ...] | None:
        """Return the key of the engine in memory, or None."""
        return self.cache.key if self.cache else None

    def stop_requested(self) -> bool:
        """True when the launch asks all trials to checkpoint and end."""
        return self.stop_file.exists()

    # ---------------------------------------------------------------- open
    def open(self, record: Record, request: Request) -> Trial | None:
        """Open a trial and run its self-test; return None if the trial has a verdict or the launch must stop."""
        import torch

        from trainables.workers.engine_cache import EngineCache

        if record.verdict() is not None or self.stop_requested():
            return None
        if self.cache is None:
            torch.set_num_threads(self.threads)  # must be called on the training thread
            self.cache = EngineCache(settings=self.kept, sharing_launch=self.sharing_launch)
        trial = self._tested(record, request, self.cache)
        if trial is not None:
            trial.phase.watch = self.watchdog.beat
            trial.phase.show("waiting", trial.step)  # until the cohort is complete
        verdict = record.verdict()
        if verdict is not None and verdict.kind == "invalid":
            self.cache.distrust()
            self.cache.drop()  # the base may be the reason why the trial is invalid
        return trial

    def is_current(self, trials: Sequence[Trial]) -> bool:
        """True when all of these trials are opened on the engine in memory."""
        return all(self.cache is not None and trial.engine is self.cache.engine for trial in trials)

    def start(self, trials: Sequence[Trial]) -> tuple[str, ...]:
        """Make a cohort of opened trials; return the directories of their records."""
        from trainables.cohort.opening import open_cohort

        self.watchdog.forget()
        self.cohort = open_cohort(trials[0].engine, trials) if trials else None
        return self.members()

    def _tested(self, record: Record, request: Request, cache: EngineCache) -> Trial | None:
        from trainables.training.baseline import BaselineTrial
        from trainables.training.failures import InputErrors, infeasible, memory_errors

        trial = cache.open(record, request.rules, request.lease_epoch)
        if trial is None:
            return None
        try:
            with memory_errors():
                if isinstance(trial, BaselineTrial):
                    trial.advance(self.stop_requested)
                elif trial.check_before_training() is None:
                    return trial
        except InputErrors as error:
            trial.record.close(infeasible(error, trial.step))
        finally:
            trial.remove()  # frees the base for the next trial; the adapter's tensors stay in memory for the cohort
        return None

    # ---------------------------------------------------------------- train
    def members(self) -> tuple[str, ...]:
        """Return the record directories of the trials in the cohort."""
        return tuple(str(trial.record.home) for trial in self.cohort.trials) if self.cohort else ()

    def advance(self, leave: Sequence[str]) -> frozenset[str]:
        """Train all trials except those in `leave` to their next eval; return the kinds of new verdicts.

        Raises:
            torch.OutOfMemoryError: the cohort has several trials and the device has too little memory for them.
        """
        assert self.cohort is not None
        for trial in [one for one in self.cohort.trials if str(one.record.home) in leave]:
            self.cohort.leave(trial.spec.trial_id)
        kinds = self._interval(self.cohort)
        if "invalid" in kinds and self.cache is not None:
            self.cache.distrust()
        return kinds

    def close(self, drop_base: bool) -> None:
        """Remove the cohort from the base; with `drop_base` release the base too."""
        cohort, self.cohort = self.cohort, None
        if cohort is not None:
            cohort.remove()
        if drop_base and self.cache is not None:
            self.cache.drop()

    def end_sharing(self) -> None:
        """Remove files of shared weights at the end of a launch, while trials may still use their pages."""
        if self.cache is not None:
            self.cache.end()

    def _interval(self, cohort: TrialGroup) -> frozenset[str]:
        import torch

        from trainables.training.failures import infeasible, memory_errors

        try:
            with self.watchdog.watching(cohort.trials[0].record.home), memory_errors():
                return frozenset(verdict.kind for verdict in cohort.advance(self.stop_requested).values())
        except torch.OutOfMemoryError as error:
            if len(cohort.trials) > 1:
                raise
            [trial] = cohort.trials
            verdict = trial.close(infeasible(error, trial.step))
            cohort.leave(trial.spec.trial_id)
        return frozenset({verdict.kind})

"""The seat that trains alone: the `tune.Trainable` of one trial in Ray Tune, with an engine in its own process.

A seat's process is reused between trials; torch and the base are loaded once per process, not once per trial.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.record import Record, Verdict
from trainables.workers.protocol import standing

if TYPE_CHECKING:
    from trainables.training.baseline import BaselineTrial
    from trainables.training.trial import Trial
    from trainables.workers.engine_cache import Resident


class Seat(tune.Trainable):
    """One trial in Ray Tune; a step is one eval interval.

    `config`: `place` (`record`, the directory with `spec.json`), `rules` (what the trial is held to), `stop_file` (its
    existence asks for a checkpoint and an early end), `cpus` and `gpus` (what the seat holds).
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Tell Tune what this seat holds while its trial runs."""
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    _resident: Resident | None = None
    _trial: Trial | BaselineTrial | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial; called by Ray in the seat's process."""
        import torch

        torch.set_num_threads(max(1, int(config["cpus"])))
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process; called by Ray instead of starting a new process."""
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance the trial to its next eval and report where it stands."""
        verdict = self._record.verdict()
        if verdict is None and self._trial is not None:
            verdict = self._advance()
        stopped = self._stop_requested()
        if verdict is not None or stopped:
            self._leave()
        if verdict is not None and verdict.kind == "invalid":
            self._drop()  # what made the trial invalid may be in the base
        return standing(self._record, stopped)

    def cleanup(self) -> None:
        """Give the base back and end the process that checks adapters; called by Ray before the process ends."""
        self._leave()
        self._drop()

    def _take(self, config: dict[str, Any]) -> None:
        self._leave()
        self._stop_file = Path(config["stop_file"])
        self._record = Record(Path(config["place"]["record"]))
        if self._record.verdict() is not None or self._stop_requested():
            return
        from trainables.workers.engine_cache import Resident

        self._resident = self._resident or Resident()
        self._trial = self._resident.open(self._record, config["rules"])

    def _drop(self) -> None:
        if self._resident is not None:
            self._resident.drop()

    def _advance(self) -> Verdict | None:
        from trainables.training.failures import InputErrors, infeasible

        assert self._trial is not None
        try:
            return self._trial.advance(self._stop_requested)
        except InputErrors as error:
            verdict = infeasible(error, self._trial.step)
        self._record.close(verdict)
        return verdict

    def _leave(self) -> None:
        if self._trial is not None:
            self._trial.remove()
            self._trial = None

    def _stop_requested(self) -> bool:
        return self._stop_file.exists()

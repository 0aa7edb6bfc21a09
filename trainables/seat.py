"""The seat: the `tune.Trainable` that stands for one trial in Ray Tune.

A seat's process is reused between trials; torch and the base are loaded once per process, not once per trial.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.errors import UserError
from trainables.record import Record, Verdict

if TYPE_CHECKING:
    from trainables.battery import Battery
    from trainables.engine import Engine
    from trainables.trial import BaselineTrial, Trial


class Seat(tune.Trainable):
    """One trial in Ray Tune; a step is one eval interval.

    `config`: `record` (directory with `spec.json`), `baselines` (baseline id -> Baseline), `guards`, `constraint`,
    `stop_file` (its existence asks for a checkpoint and an early end), `cpus` and `gpus` (what the seat holds).
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Tell Tune what this seat holds while its trial runs."""
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    _engine: Engine | None = None
    _battery: Battery | None = None
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
            self._drop_engine()  # what made the trial invalid may be in the base
        return self._report(verdict, stopped)

    def cleanup(self) -> None:
        """Give the base back and end the process that checks adapters; called by Ray before the process ends."""
        self._leave()
        self._drop_engine()

    def _take(self, config: dict[str, Any]) -> None:
        self._leave()
        self._stop_file = Path(config["stop_file"])
        self._record = Record(Path(config["record"]))
        spec = self._record.spec()
        if self._record.verdict() is not None or self._stop_requested():
            return
        import torch

        from trainables.adapters import PlacementMismatch
        from trainables.trial import open_trial

        baseline = config["baselines"].get(spec.baseline().trial_id)
        try:
            # kept only if the trial opens, else it may be half placed
            engine, self._engine = self._engine_for(spec), None
            guards, constraint = config["guards"], config["constraint"]
            self._trial = open_trial(engine, spec, self._record, baseline, guards, constraint, self._battery)
            self._engine = engine
        except PlacementMismatch as error:
            self._record.close(Verdict(kind="invalid", step=0, cause="placement", reason=str(error)))
        except (UserError, torch.OutOfMemoryError) as error:
            self._record.close(_infeasible(error, step=0))

    def _engine_for(self, spec: Any) -> Engine:
        from trainables.battery import Battery
        from trainables.engine import Engine, engine_key
        from trainables.reload import Reloader

        if self._engine is None or self._engine.key != engine_key(spec):
            self._drop_engine()  # the old base goes before the new one comes
            engine = Engine.load(spec)
            self._battery = Battery(engine, Reloader(spec, str(engine.base.device)))
            return engine
        return self._engine

    def _drop_engine(self) -> None:
        self._engine = None
        if self._battery is not None and self._battery.reloader is not None:
            self._battery.reloader.close()
        self._battery = None

    def _advance(self) -> Verdict | None:
        import torch

        assert self._trial is not None
        try:
            return self._trial.advance(self._stop_requested)
        except (UserError, torch.OutOfMemoryError) as error:
            verdict = _infeasible(error, self._trial.step)
        self._record.close(verdict)
        return verdict

    def _leave(self) -> None:
        if self._trial is not None:
            self._trial.remove()
            self._trial = None

    def _stop_requested(self) -> bool:
        return self._stop_file.exists()

    def _report(self, verdict: Verdict | None, stopped: bool) -> dict[str, Any]:
        evals = self._record.evals()
        return {
            "record": str(self._record.directory),
            "step": evals[-1].step if evals else 0,
            "verdict": str(verdict) if verdict else None,
            "done": verdict is not None or stopped,
        }


def _infeasible(error: Exception, step: int) -> Verdict:
    if isinstance(error, UserError):
        return Verdict(kind="infeasible", step=step, cause="input", reason=error.message)
    return Verdict(kind="infeasible", step=step, cause="out_of_memory", reason=str(error).splitlines()[0])

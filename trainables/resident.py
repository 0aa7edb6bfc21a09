"""The engine a process keeps between trials, with the battery that proves their arms; and how a trial opens on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainables.adapters import PlacementMismatch
from trainables.baseline import BaselineTrial
from trainables.battery import Battery
from trainables.company import engine_key
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.record import Record, Verdict
from trainables.reload import Reloader
from trainables.spec import TrialSpec
from trainables.standing import Rules
from trainables.trial import Trial, open_trial

InputErrors = (UserError, torch.OutOfMemoryError)


@dataclass
class Resident:
    """At most one engine; another base, quantization or data set takes its place."""

    engine: Engine | None = None
    battery: Battery | None = None

    def open(self, record: Record, rules: Rules) -> Trial | BaselineTrial | None:
        """Open the record's trial; one that cannot be opened is closed with the reason, and None is returned."""
        spec = record.spec()
        try:
            engine = self._engine_for(spec)
            baseline = rules.baselines.get(spec.baseline().trial_id)
            return open_trial(engine, spec, record, baseline, rules.guards, rules.constraint, self.battery)
        except PlacementMismatch as error:
            record.close(Verdict(kind="invalid", step=0, cause="placement", reason=str(error)))
        except InputErrors as error:
            record.close(infeasible(error, step=0))
        return None

    def drop(self) -> None:
        """Let go of the engine and end the process that checks adapters."""
        self.engine = None
        if self.battery is not None and self.battery.reloader is not None:
            self.battery.reloader.close()
        self.battery = None

    def _engine_for(self, spec: TrialSpec) -> Engine:
        if self.engine is None or self.engine.key != engine_key(spec):
            self.drop()  # the old base goes before the new one comes
            self.engine = Engine.load(spec)
            self.battery = Battery(self.engine, Reloader(spec, str(self.engine.base.device)))
        return self.engine


def infeasible(error: Exception, step: int) -> Verdict:
    """Return the verdict of a trial that its input, or the memory of the device, does not allow."""
    if isinstance(error, UserError):
        return Verdict(kind="infeasible", step=step, cause="input", reason=error.message)
    return Verdict(kind="infeasible", step=step, cause="out_of_memory", reason=str(error).splitlines()[0])

"""The engine a process keeps between trials, with the self-test that proves their arms; and how a trial opens on it."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.engine import Engine
from trainables.model.lora import PlacementMismatch
from trainables.record import Record, Verdict
from trainables.selftest.reload import Reloader
from trainables.selftest.run import SelfTest
from trainables.spec import TrialSpec, engine_key
from trainables.training.baseline import BaselineTrial
from trainables.training.failures import InputErrors, infeasible
from trainables.training.trial import Trial, open_trial
from trainables.workers.protocol import Rules


@dataclass
class Resident:
    """At most one engine; another base, quantization or data set takes its place."""

    engine: Engine | None = None
    selftest: SelfTest | None = None

    def open(self, record: Record, rules: Rules) -> Trial | BaselineTrial | None:
        """Open the record's trial; one that cannot be opened is closed with the reason, and None is returned."""
        spec = record.spec()
        try:
            engine = self._engine_for(spec)
            baseline = rules.baselines.get(spec.baseline().trial_id)
            return open_trial(engine, spec, record, baseline, rules.guards, rules.constraint, self.selftest)
        except PlacementMismatch as error:
            record.close(Verdict(kind="invalid", step=0, cause="placement", reason=str(error)))
        except InputErrors as error:
            record.close(infeasible(error, step=0))
        return None

    def drop(self) -> None:
        """Let go of the engine and end the process that checks adapters."""
        self.engine = None
        if self.selftest is not None and self.selftest.reloader is not None:
            self.selftest.reloader.close()
        self.selftest = None

    def _engine_for(self, spec: TrialSpec) -> Engine:
        if self.engine is None or self.engine.key != engine_key(spec):
            self.drop()  # the old base goes before the new one comes
            self.engine = Engine.load(spec)
            self.selftest = SelfTest(self.engine, Reloader(spec, str(self.engine.base.device)))
        return self.engine

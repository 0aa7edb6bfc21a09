"""Keeps one engine and its self-test between trials, and opens trials on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial

import torch

from trainables.attempt import claim
from trainables.engine import Engine
from trainables.engine_log import add_use
from trainables.frozen.keeping_file import read_keeping
from trainables.frozen.settings import OFF, CacheSettings
from trainables.frozen.store import Store
from trainables.model.lora import PlacementMismatch
from trainables.model.residency import ResidencyChoice
from trainables.model.shared_weights import SharedWeights, end_sharing, weights_key
from trainables.phase import PhaseFile
from trainables.progress import reporting
from trainables.record import Record
from trainables.selftest.reload import Reloader
from trainables.selftest.run import SelfTest
from trainables.sharing_keys import engine_key
from trainables.source_check import check_sources
from trainables.spec import TrialSpec
from trainables.training.baseline import BaselineTrial
from trainables.training.failures import InputErrors, infeasible, memory_errors
from trainables.training.trial import Trial, open_trial
from trainables.verdict import Verdict
from trainables.workers.protocol import Rules


@dataclass
class EngineCache:
    """Holds at most one engine; a trial with another base, quantization or data replaces it.

    Kept activations of frozen layers outlive it: they are found by what decides them. With `sharing_launch`, the base
    has the weights of a file that other engines of this launch and node use too; `distrusted` are the keys of bases on
    which a trial was invalid with such weights, which are loaded for this engine alone from then on.
    """

    engine: Engine | None = None
    selftest: SelfTest | None = None
    settings: CacheSettings = OFF
    sharing_launch: str = ""
    sharing: SharedWeights | None = None
    distrusted: set[str] = field(default_factory=set)
    _own_reason: str = ""

    @cached_property
    def store(self) -> Store | None:
        """Return where activations are kept, None if they are not."""
        return Store.of(self.settings)

    @property
    def key(self) -> tuple[str, ...] | None:
        """Return the `engine_key` of the engine in memory, or None."""
        return self.engine.key if self.engine else None

    def open(self, record: Record, rules: Rules, launch: int = 0) -> Trial | BaselineTrial | None:
        """Claim and open the trial of a record; if it cannot be opened, close it with a verdict and return None.

        Raises:
            Superseded: a later launch than `launch` took over the experiment.
        """
        record = claim(record, launch)
        if record.verdict() is not None:  # the process before wrote it in the meantime
            return None
        spec = record.spec()
        phase = PhaseFile(record.directory)
        phase.show("loading")
        try:
            read_keeping(record.directory)  # a damaged one must not fail the cohort that it would join
            with memory_errors(), reporting(lambda part: phase.show("loading", share=part.share)):
                engine = self._engine_for(spec, rules.resident)
            baseline = rules.baselines.get(spec.baseline().trial_id)
            guards, constraint = rules.guards_for(spec), rules.constraint
            trial = open_trial(engine, spec, record, baseline, guards, constraint, self.selftest, rules.keep)
            add_use(record.directory, str(engine.base.device), torch.get_num_threads(), engine.base.residency,
                    self.sharing.origin if self.sharing else self._own_reason)  # fmt: skip
            return trial
        except PlacementMismatch as error:
            record.close(Verdict(kind="invalid", step=0, cause="placement", reason=str(error)))
        except InputErrors as error:
            record.close(infeasible(error, step=0))
        return None

    def drop(self) -> None:
        """Release the engine and end the process that checks saved adapters."""
        selftest, self.engine, self.selftest = self.selftest, None, None
        if selftest is not None and selftest.reloader is not None:
            selftest.reloader.close()
        if self.sharing is not None:
            self.sharing.release()
            self.sharing = None

    def distrust(self) -> None:
        """Load the base without sharing from now on: a trial was invalid, and its weights may be the reason."""
        if self.sharing is not None and self.sharing.is_shared:
            self.distrusted.add(self.sharing.key)

    def end(self) -> None:
        """Leave no file of shared weights that no engine uses, at the end of a launch; mapped pages stay."""
        if self.sharing_launch:
            end_sharing(self.sharing)

    def _sharing_for(self, spec: TrialSpec, resident: ResidencyChoice) -> SharedWeights | None:
        self._own_reason = ""
        if not self.sharing_launch:
            return None
        key = weights_key(
            spec.base.sha256, spec.quantization, spec.compute_dtype, resident, self.sharing_launch
        )  # fmt: skip
        if key in self.distrusted:
            self._own_reason = "own: a trial was invalid on the shared weights"
            return None
        return SharedWeights(key, partial(check_sources, [spec]))

    def _engine_for(self, spec: TrialSpec, resident: ResidencyChoice) -> Engine:
        if self.engine is None or self.engine.key != engine_key(spec):
            self.drop()  # there may not be enough memory for both
            check_sources([spec])
            self.sharing = self._sharing_for(spec, resident)
            self.engine = Engine.load(spec, resident=resident, store=self.store, sharing=self.sharing)
            self.selftest = SelfTest(self.engine, Reloader(spec, str(self.engine.base.device)))
        return self.engine

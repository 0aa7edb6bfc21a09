"""Chooses how the steps of a cohort run: its cut into passes, and whether these start from kept activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trainables.cohort.calibration import Calibration, calibrated
from trainables.cohort.calibration_memory import CalibrationMemory, CohortShape, shape_of
from trainables.cohort.cuts import ALONE, Cut, Member, TowerDepths, cut_in, passes
from trainables.cohort.keeping import costs_of, decided
from trainables.data.encoding import Batch
from trainables.engine import Engine
from trainables.frozen.kept import KeptActivations
from trainables.frozen.worth import Keeping, StepCosts, costs_in
from trainables.spec import TrialSpec

Keep = Callable[[KeptActivations | None], None]


@dataclass
class StepChoice:
    """Chooses for the members of a cohort, which have `spec` in common, by the batches of their first step.

    `seconds` runs a pass without an update, None if the device has too little memory; `keep` says from what passes
    start; `show` tells that steps are timed. With `memory` and `costs_memory` a shape is timed once on a machine. A cut
    that is `given` is taken.
    """

    engine: Engine
    spec: TrialSpec
    members: Sequence[Member]
    batches: Sequence[Batch]
    seconds: Callable[[Sequence[int]], float | None]
    keep: Keep
    show: Callable[[], None]
    memory: CalibrationMemory | None = None
    costs_memory: CalibrationMemory | None = None
    given: Cut | None = None
    calibration: Calibration | None = None  # the newest
    shape: CohortShape | None = None  # of the step with the newest cut
    _cuts: dict[bool, Cut] = field(default_factory=dict)

    def keeping(self) -> Keeping:
        """Return what new trials keep."""
        return decided(self.engine, self.spec, self._costs, self._shares_cut)

    def cut(self, keeps: bool) -> Cut:
        """Return the fastest cut for passes that start from kept activations, or do not; the next passes do so."""
        self.keep(self.engine.kept if keeps else None)
        self.shape = shape_of(self.engine, self.spec, self.members, self.batches, keeps) if self.memory else None
        if keeps not in self._cuts:
            self._cuts[keeps] = self.given or (self._fastest(keeps) if len(self.members) > 1 else ALONE)
        return self._cuts[keeps]

    def _fastest(self, keeps: bool) -> Cut:
        def measured() -> Cut:
            towers = TowerDepths.of(self.engine.base, self.batches, keeps)
            self.show()
            self.calibration = calibrated(self.members, towers, self.seconds)
            return self.calibration.cut

        if self.memory is None or self.shape is None:
            return measured()
        return self.memory.remembered(self.shape, cut_in, measured)

    def _shares_cut(self) -> bool:
        depths = {one.number: one for one in self.members}
        split = [[depths[number] for number in numbers] for numbers in passes(self.members, self.cut(keeps=False))]
        starts = [(max(one.language for one in each), max(one.vision for one in each)) for each in split]
        return len(set(starts)) < len(starts)

    def _costs(self) -> StepCosts | None:
        kept, split = self.engine.kept, passes(self.members, self.cut(keeps=True))
        assert kept is not None

        def seconds(used: KeptActivations | None) -> float | None:
            self.keep(used)
            every = [self.seconds(numbers) for numbers in split]
            return None if None in every else sum(filter(None, every))

        def measured() -> StepCosts | None:
            self.show()
            return costs_of(kept, sum(len(one.rows) for one in self.batches), seconds)

        if self.costs_memory is None:
            return measured()
        shape = shape_of(self.engine, self.spec, self.members, self.batches)
        return self.costs_memory.remembered(shape, costs_in, measured)

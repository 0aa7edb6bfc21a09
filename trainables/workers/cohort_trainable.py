"""The light seat: stands for one trial in Ray Tune and asks an engine actor to advance it; imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray import tune

from trainables.record import Record
from trainables.workers.protocol import standing

SEAT_CPUS = 0.01  # it only waits


class CohortSeat(tune.Trainable):
    """One trial in Ray Tune; a step is one eval interval, made by the engine together with its company.

    `config`: `place` (`record` and `engine`, the actor's name, and `company`, the records expected beside it),
    `rules`, `stop_file`.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Tell Tune what this seat holds while its trial runs."""
        return tune.PlacementGroupFactory([{"CPU": SEAT_CPUS}])

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial; called by Ray in the seat's process."""
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process; called by Ray instead of starting a new process."""
        self.cleanup()
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait until the trial reached its next eval, and report where it stands."""
        if self._record.verdict() is not None or self._stop_file.exists():
            return standing(self._record, self._stop_file.exists())
        name = str(self._record.directory)
        report: Any = ray.get(self._engine.advance.remote(name, self._rules, self._company, self._mark))
        return report

    def cleanup(self) -> None:
        """Leave the cohort; called by Ray before the process ends."""
        self._engine.leave.remote(str(self._record.directory), self._mark)  # nobody waits for the answer

    def _take(self, config: dict[str, Any]) -> None:
        place = config["place"]
        self._record = Record(Path(place["record"]))
        self._company, self._rules = place["company"], config["rules"]
        self._stop_file = Path(config["stop_file"])
        self._mark = uuid4().hex  # tells this seat from an earlier one of the same trial
        self._engine = ray.get_actor(place["engine"])

"""The launch that holds an experiment, as others see it by its lease: in words, and for JSON."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.execution.experiment import Experiment
from sweeps.execution.lease_holder import Holder
from trainables.io.files import FileDamaged


@dataclass(frozen=True)
class WatchedLaunch:
    """The launch that holds an experiment, None if none does; `damage` says why its lease cannot be read."""

    holder: Holder | None
    damage: str | None = None

    @property
    def may_run(self) -> bool:
        """True unless it is known that no launch runs: none holds the experiment, or it is lost."""
        return self.damage is not None or (self.holder is not None and not self.holder.is_lost)

    def __str__(self) -> str:
        if self.damage is not None:
            return "its lease is damaged"
        if self.holder is None:
            return "no launch runs it"
        number, owner = self.holder.launch, self.holder.owner
        if self.holder.has_ended:
            return f"launch {number} is lost ({owner} has ended)"
        state = "is lost" if self.holder.is_lost else "runs it"
        return f"launch {number} {state} ({owner}, last heartbeat {self.holder.heartbeat_age_seconds:.0f} s ago)"

    def as_json(self) -> dict[str, object] | None:
        """Return the launch for JSON; None if none holds the experiment."""
        if self.damage is not None:
            return {"damage": self.damage}
        if self.holder is None:
            return None
        return {
            "number": self.holder.launch,
            "host": self.holder.owner.host,
            "process_id": self.holder.owner.pid,
            "heartbeat_age_seconds": round(self.holder.heartbeat_age_seconds, 1),
            "is_lost": self.holder.is_lost,
        }


def launch_of(experiment: Experiment) -> WatchedLaunch:
    """Read which launch holds an experiment."""
    try:
        return WatchedLaunch(experiment.holder())
    except FileDamaged as error:
        return WatchedLaunch(None, error.message)

"""How a job is launched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from sweeps.execution.schedulers import Scheduler
from sweeps.study import Study
from trainables.errors import UserError


@dataclass(frozen=True)
class Launch:
    """How a job is run, and where its base and data are; nothing here decides a result but the data and `scheduler`.

    The scheduler ends trials early, so the experiment's configuration keeps it.
    """

    storage: Path = Path("runs")
    experiment: str | None = None
    tracking_uri: str | None = None
    address: str | None = None
    retries: int = 2
    cohort: int | None = None
    scheduler: Scheduler | None = None
    command: str = "sweeps.launch.run"
    base: str | None = None
    train: Path | None = None
    validation: Path | None = None
    ood: Path | None = None
    drop: str = ""
    force: bool = False
    console: Console = field(default_factory=Console)

    def directory(self, study: Study) -> Path:
        """Return the experiment's directory, absolute: workers run elsewhere.

        Raises:
            UserError: the experiment's name would lead out of the storage.
        """
        name = self.experiment or study.name
        if Path(name).name != name or name == "..":
            raise UserError(f"--experiment must be a name, but got `{name}`", "choose where it lies with --storage")
        return self.storage.expanduser().resolve() / name


def scheduler_in(launch: Launch) -> dict[str, Any]:
    """Return what `study.json` keeps of the scheduler; nothing without one."""
    if launch.scheduler is None:
        return {}
    return {"scheduler": {"name": launch.scheduler.name, **launch.scheduler.model_dump()}}

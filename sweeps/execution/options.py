"""The options of a launch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from sweeps.execution.engine_plan import threads_asked
from sweeps.execution.notifier import Notifier
from sweeps.execution.schedulers import Scheduler
from sweeps.planning.device_memory import Devices
from sweeps.study import Study
from trainables.errors import UserError, named
from trainables.frozen.settings import IN_MEMORY, CacheSettings
from trainables.limits import name_problem
from trainables.local_paths import local_path
from trainables.model.residency import ResidencyChoice
from trainables.record import Keep
from trainables.tested_guards import Reading


@dataclass(frozen=True)
class Launch:
    """How a job runs, and where its base and data are.

    `command` is the command of the launch, `sync_command` the one that copies its records to MLflow. `keep` says which
    adapters the records keep; None is as the experiment began, or else all for which there is space.
    `resident` says how engines hold 4-bit weights. `cache` says where they keep what frozen layers compute.
    `threads` is the most threads that an engine takes; None is its share of the cores of its node.
    `verbose` also prints what libraries and Ray's workers say.
    `steal` takes an experiment over that another launch still holds. `fresh_baseline` measures baselines that this
    storage already knows.
    Only `base`, the data without the holdout (`test`, `ood_test`), `split_holdout`, `drop`, `scheduler` and `reading`
    affect the results. The experiment's configuration includes the last two, because they end trials early; with
    `reading` None guards decide as the study says. `price` is that of a device-hour, and `devices` are those that
    train; both are for the plan alone. `width` is the most trials of an engine at once for which the plan found memory.

    >>> from pathlib import Path
    >>> from sweeps import Launch
    >>> launch = Launch(storage=Path("runs"), experiment="towers", keep="best")
    >>> launch.is_local
    True
    """

    storage: Path = Path("runs")
    experiment: str | None = None
    tracking_uri: str | None = None
    address: str | None = None
    retries: int = 2
    cohort: int | None = None
    threads: int | None = field(default_factory=lambda: threads_asked(os.environ))
    cache: CacheSettings = IN_MEMORY
    keep: Keep | None = None
    resident: ResidencyChoice = "auto"
    scheduler: Scheduler | None = None
    verbose: bool = False
    command: str = "sweeps.launch.run"
    sync_command: str = ""
    base: str | None = None
    train: Path | None = None
    validation: Path | None = None
    ood: Path | None = None
    test: Path | None = None
    ood_test: Path | None = None
    split_holdout: bool = False
    drop: str = ""
    force: bool = False
    steal: bool = False
    fresh_baseline: bool = False
    reading: Reading | None = None
    notifier: Notifier | None = None
    price: float | None = None
    devices: Devices | None = None
    width: int | None = None
    console: Console = field(default_factory=Console)

    def __post_init__(self) -> None:
        for one in fields(self):
            if isinstance(path := getattr(self, one.name), Path) or (one.name == "base" and path):
                local_path(path, one.name)

    @property
    def is_local(self) -> bool:
        """True when the launch starts Ray on this machine, and joins no cluster."""
        return self.address is None and "RAY_ADDRESS" not in os.environ

    @property
    def most_trials(self) -> int | None:
        """Return the most trials that an engine trains at once, by --cohort and by memory; None without a limit."""
        return min(filter(None, (self.cohort, self.width)), default=None)

    def directory(self, study: Study) -> Path:
        """Return the absolute path of the experiment's directory; workers have another working directory.

        Raises:
            UserError: the experiment's name is a path, or no name for a file.
        """
        return experiment_directory(self.storage, self.experiment or study.name)


def experiment_directory(storage: Path, name: str) -> Path:
    """Return the absolute path of an experiment's directory.

    Raises:
        UserError: the experiment's name is a path, or no name for a file; or the storage is a URL.
    """
    if Path(name).name != name or name == "..":
        hint = "choose its directory with --storage"
        raise UserError(f"--experiment must be a name, but got `{named(name)}`", hint)
    if problem := name_problem(name):
        raise UserError(f"--experiment {problem}: `{named(name)}`", "choose a shorter or plainer name")
    return local_path(storage, "--storage").expanduser().resolve() / name


def scheduler_in(launch: Launch) -> dict[str, Any]:
    """Return the entry of the scheduler in `study.json`; empty without a scheduler."""
    if launch.scheduler is None:
        return {}
    return {"scheduler": {"name": launch.scheduler.name, **launch.scheduler.model_dump()}}

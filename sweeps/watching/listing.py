"""The experiments of a storage as a list: trials, how many ended, size on disk, last change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from sweeps.execution.experiment import Experiment
from sweeps.watching.experiments import disk_use
from sweeps.watching.launches import WatchedLaunch, launch_of
from trainables.errors import UserError
from trainables.record import Record


@dataclass(frozen=True)
class ListedExperiment:
    """One experiment of a storage, and the launch that holds it.

    `damaged` is the number of trials whose verdict cannot be read, and `changed_seconds` counts since 1970.
    """

    name: str
    launch: WatchedLaunch
    trials: int
    ended: int
    damaged: int
    size_bytes: int
    changed_seconds: float


def listed(experiment: Experiment) -> ListedExperiment:
    """Read what the list says of an experiment."""
    states = [_has_ended(record) for record in experiment.records()]
    use = disk_use(experiment.directory)
    return ListedExperiment(
        name=experiment.name,
        launch=launch_of(experiment),
        trials=len(states),
        ended=states.count(True),
        damaged=states.count(None),
        size_bytes=use.size_bytes,
        changed_seconds=use.changed_seconds,
    )


def list_table(found: Sequence[ListedExperiment]) -> Table:
    """Return the list as a table; times are those of this machine's time zone."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("experiment", no_wrap=True)
    for name in ("trials", "ended", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last change", no_wrap=True)
    table.add_column("launch")
    for one in found:
        damaged = f" ({one.damaged} damaged)" if one.damaged else ""
        cells = (one.name, f"{one.trials}{damaged}", str(one.ended), size_text(one.size_bytes),
                 f"{_changed(one).astimezone():%Y-%m-%d %H:%M}", _launch_cell(one.launch))  # fmt: skip
        table.add_row(*map(Text, cells))
    return table


def list_json(found: Sequence[ListedExperiment]) -> str:
    """Return the list as JSON; times are in UTC."""
    rows = [
        {
            "experiment": one.name, "launch": one.launch.as_json(), "trials": one.trials, "ended": one.ended,
            "damaged": one.damaged, "size_bytes": one.size_bytes, "last_change": _changed(one).isoformat(),
        }
        for one in found
    ]  # fmt: skip
    return json.dumps({"experiments": rows}, indent=2, ensure_ascii=False)


def size_text(size_bytes: int) -> str:
    """Return a size as text in kB, MB or GB (10^3, 10^6, 10^9 bytes)."""
    unit, scale = next(
        ((unit, scale) for unit, scale in (("GB", 1e9), ("MB", 1e6)) if size_bytes >= scale), ("kB", 1e3)
    )
    return f"{size_bytes / scale:,.1f} {unit}"


def _launch_cell(launch: WatchedLaunch) -> str:
    return str(launch) if launch.holder or launch.damage else "-"


def _has_ended(record: Record) -> bool | None:
    try:
        return record.verdict() is not None
    except UserError:
        return None


def _changed(one: ListedExperiment) -> datetime:
    return datetime.fromtimestamp(one.changed_seconds, UTC)

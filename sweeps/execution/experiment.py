"""The directory of one experiment: its configuration, its lock, its trials' records."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeps.study import Study
from trainables.errors import UserError
from trainables.guards import described
from trainables.io.files import read_json, write_json
from trainables.record import Record, records_under
from trainables.spec import TrialSpec

RESERVE_BYTES = 200 * 10**6
DECIDES = {"epochs": "steps", "batch_rows": "effective_rows", "accumulation_steps": "effective_rows"}
CHECKPOINT_FACTOR = 12  # adapter + two AdamW moments, in two checkpoints, one best and one being written


class AlreadyRunning(UserError):
    """Another launch holds the experiment."""

    exit_code = 5


@dataclass(frozen=True)
class Experiment:
    """`<storage>/<name>/`: `study.json`, `trials/<trial>-<id>/`, and the stop file that asks seats to checkpoint."""

    directory: Path

    @property
    def name(self) -> str:
        """Return the experiment's name, also in MLflow."""
        return self.directory.name

    @property
    def stop_file(self) -> Path:
        """Return the file whose existence asks every seat to checkpoint and leave."""
        return self.directory / "STOP"

    def records(self) -> list[Record]:
        """Return the records of all trials, by name."""
        return records_under(self.directory / "trials")

    def record_of(self, spec: TrialSpec) -> Record:
        """Return the record of a trial by its id, whatever name it was given first."""
        found = sorted((self.directory / "trials").glob(f"*-{spec.trial_id}"))
        return Record(found[0] if found else self.directory / "trials" / f"{spec.name}-{spec.trial_id}")

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Write the configuration, or refuse when the experiment was begun with another one.

        Raises:
            UserError: naming every setting that differs.
        """
        path = self.directory / "study.json"
        if not path.exists():
            write_json(path, configuration)
            return
        begun = read_json(path)
        differing = [key for key in {**begun, **configuration} if begun.get(key) != configuration.get(key)]
        if differing:
            changes = "; ".join(f"{key}: {begun.get(key)} -> {configuration.get(key)}" for key in sorted(differing))
            raise UserError(
                f"experiment `{self.name}` was begun with another configuration: {changes}",
                f"use the same settings, or begin a new one with --experiment {self.name}-2",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the experiment for one launch.

        Raises:
            AlreadyRunning: another launch holds it.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise AlreadyRunning(
                    f"`{self.name}` must be launched once at a time, but process {file.read().strip()} runs it",
                    "wait for it, or stop it with Ctrl-C",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self.stop_file.unlink(missing_ok=True)
            yield


def configuration_of(study: Study, specs: list[TrialSpec]) -> dict[str, Any]:
    """Return what all trials of an experiment share, so that they can be compared; not what is an arm's own."""
    spec = next((one for one in specs if not one.placement.is_baseline), specs[0])
    own = {DECIDES.get(key, key) for arm in study.arms for key in (*arm.settings, *arm.miniature)} | {*study.varies}
    shared = {
        "base": spec.base.sha256,
        "train": spec.train.sha256,
        "validation": spec.validation.sha256,
        "ood": spec.ood.sha256,
        "steps": spec.steps,
        "effective_rows": spec.effective_rows,
        "eval_every_steps": spec.eval_every_steps,
        "data_seed": spec.data_seed,
        "guards": [described(guard) for guard in study.guards],
        "constraint": asdict(study.constraint),
    }
    return {key: value for key, value in shared.items() if key not in own}


def check_storage(storage: Path, adapter_bytes: int) -> None:
    """Refuse a storage that cannot be written or has no room for the records.

    Raises:
        UserError: saying how many bytes are free and how many are needed.
    """
    try:
        storage.mkdir(parents=True, exist_ok=True)
        probe = storage / f".write-{os.getpid()}"
        probe.write_text("x", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"the storage must be writable, but {storage} is not: {error.strerror}", "pass another --storage"
        ) from None
    needed, free = adapter_bytes * CHECKPOINT_FACTOR + RESERVE_BYTES, shutil.disk_usage(storage).free
    if free < needed:
        raise UserError(
            f"the storage must have {needed / 1e6:,.0f} MB free, but {storage} has {free / 1e6:,.0f} MB",
            "free some space or pass another --storage",
        )

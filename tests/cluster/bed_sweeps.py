"""Small sweeps on the bed: their rows, how the desk submits them, and what they measure."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bed import Bed, checked
from bed_host import SHARED

from trainables.io.files import read_json
from trainables.io.manifest import MANIFEST
from trainables.lease import read_lease
from trainables.mini import datasets
from trainables.phase import read_phase
from trainables.record import ADAPTERS, BEST, Record

EVAL_EVERY, STEPS = 4, 12
ROWS = {"row": 96, "irrelevant": 8, "caption": 4, "text": 4}  # few, because evals take most of the time
FILES = {"train": "train", "val": "validation", "ood": "ood"}
RUNS, MLFLOW = f"{SHARED}/runs", "http://127.0.0.1:5000"
# one arm for each node, in a process of one thread. Few rows cannot stop an arm, so preflight refuses without --force
WORDS = (f"--only A1,B1,C1 --steps {STEPS} --eval-every {EVAL_EVERY} --threads 1 --force "
         + " ".join(f"--{flag} {SHARED}/data/{name}.jsonl" for flag, name in FILES.items()))  # fmt: skip
ALONE = "--cohort 1"  # each trial in a process of its own: its bytes do not depend on the trials beside it
WEIGHTS = "adapter_model.safetensors"
CLOCKS = {"train_seconds", "eval_seconds", "peak_memory_mb"}
DRIFT = 1e-4  # relative, where trials share a pass with others: the order of fp32 sums
Found = TypeVar("Found")


def write_rows(directory: Path) -> None:
    """Write the first rows of the miniature for all hosts."""
    drawn = datasets.write(directory / "whole", seed=0)
    for name in FILES.values():
        taken: dict[str, int] = {}
        with (directory / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for line in getattr(drawn, name).read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                kind = row.get("kind", "row")
                taken[kind] = taken.get(kind, 0) + 1
                if taken[kind] <= (ROWS[kind] if name != "validation" else 6):
                    row["images"] = [f"whole/{image}" for image in row["images"]]
                    file.write(json.dumps(row) + "\n")
    checked("chmod", "-R", "a+rX", directory)


def submit(experiment: str, words: str = "", checks: str = "--no-doctor") -> str:
    """Return the command by which the desk submits a sweep; `checks` are options of `footprint submit` itself."""
    return (f"footprint submit {checks} cluster.yaml stage4 {WORDS} --experiment {experiment} --storage {RUNS} "
            f"--tracking-uri {MLFLOW} {words}")  # fmt: skip


def resume(experiment: str, words: str = "") -> str:
    """Return the command by which the desk finishes a sweep, which keeps the settings that it was started with."""
    return (f"footprint submit --no-doctor cluster.yaml stage4 --resume --threads 1 --experiment {experiment} "
            f"--storage {RUNS} --tracking-uri {MLFLOW} {words}")  # fmt: skip


class Sweep:
    """A sweep on the bed that runs or has ended."""

    def __init__(self, bed: Bed, experiment: str, storage: str = RUNS) -> None:
        self.bed, self.experiment = bed, experiment
        self.directory = bed.shared(f"{storage}/{experiment}")

    def homes(self) -> list[Path]:
        """Return the directories of its trials without the baseline's."""
        return sorted(self.directory.glob("trials/[!A0]*-*")) + sorted(self.directory.glob("trials/A[!0]*-*"))

    def training_on(self, hosts: tuple[str, ...]) -> tuple[Path, str] | None:
        """Return a trial that trains on one of the hosts after its first eval, and the host; None if there is none."""
        for home in self.homes():
            owner, phase = read_lease(home).owner, read_phase(Record(home).directory)
            trains = phase is not None and phase.name == "training" and EVAL_EVERY <= phase.step < STEPS
            if owner is not None and owner.host in hosts and trains:
                return home, owner.host
        return None

    def results(self, copies: Path) -> dict[str, dict[str, object]]:
        """Return verdict, measurements and digests of adapters of every trial, from copies of the records."""
        shutil.copytree(self.directory / "trials", copies / self.experiment)
        return {home.name: measured(Record(home)) for home in (copies / self.experiment).iterdir()}


def measured(record: Record) -> dict[str, object]:
    return {
        "verdict": str(record.verdict()),
        "metrics": [(one.kind, one.step, {key: value for key, value in one.metrics.items() if key not in CLOCKS})
                    for one in record.measurements()],
        "adapters": {str(path.parent.relative_to(record.directory)): read_json(path)["sha256"][WEIGHTS]
                     for folder in (BEST, f"{ADAPTERS}/*") for path in record.directory.glob(f"{folder}/{MANIFEST}")},
    }  # fmt: skip


def until(condition: Callable[[], Found | None], what: str, seconds: float, process: subprocess.Popen[str] | None = None
          ) -> Found:  # fmt: skip
    """Return what a condition finds; its absence is nothing.

    Raises:
        AssertionError: it finds nothing in time, or the process ends before it does.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: the command ended before, with {process.returncode}:\n"
                                 f"{process.communicate()[0][-6000:]}")  # fmt: skip
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")

"""What every training program of the comparison with others is given, and the clock that times its steps.

Imports only the standard library, because the interpreters of other programs import it too.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

IGNORED_LABEL = -100
WARM_UP_STEPS = 1  # the first step allocates memory that later ones reuse


@dataclass(frozen=True)
class JobRow:
    """One encoded conversation; labels are `IGNORED_LABEL` where nothing is predicted."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Job:
    """One adapter to train with AdamW at a constant rate, on `batch_rows` rows a step in the order of `rows`.

    `adapter` is a directory with the initial adapter as PEFT saves it. `quantization` is `none` or `nf4`, `dtype` the
    name of the torch dtype that the base computes in, `device` is `cpu` or `cuda`.
    """

    base: str
    adapter: str
    rows: list[JobRow]
    batch_rows: int
    learning_rate: float
    adam_betas: tuple[float, float]
    weight_decay: float
    max_gradient_norm: float
    quantization: str
    dtype: str
    device: str
    threads: int

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return len(self.rows) // self.batch_rows

    def step_rows(self, step: int) -> list[JobRow]:
        """Return the rows of a step, counted from 0."""
        return self.rows[step * self.batch_rows : (step + 1) * self.batch_rows]

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job that `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values["rows"] = [JobRow(**row) for row in values["rows"]]
        values["adam_betas"] = tuple(values["adam_betas"])
        return cls(**values)


@dataclass
class StepTimes:
    """A clock that is read before the first step and after every step; also a stop check that ends after `last`.

    CPU seconds are those of all threads of the process.
    """

    last: int = 0
    synchronize: Callable[[], None] = lambda: None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def mark(self) -> None:
        """Read the clocks after all queued work of the device has finished."""
        self.synchronize()
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def __call__(self) -> bool:
        """Read the clocks and return whether `last` steps are done."""
        self.mark()
        return len(self.wall) > self.last


@dataclass(frozen=True)
class Trained:
    """The losses (nats per label) and the durations of every step of one run, with the program's versions."""

    losses: list[float]
    wall_seconds: list[float]
    cpu_seconds: list[float]
    versions: str

    @classmethod
    def of(cls, times: StepTimes, losses: list[float], versions: str) -> Trained:
        """Return what a clock and a training loop have recorded."""
        return cls(losses, _between(times.wall), _between(times.cpu), versions)

    def write(self, path: Path) -> None:
        """Write the run as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Trained:
        """Read a run that `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def _between(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]

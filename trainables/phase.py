"""What a running trial does now, in a small file of its record that the launch shows; no result depends on it."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PhaseName = Literal["waiting", "loading", "self-test", "calibration", "training", "eval"]
FILE = ".phase.json"  # a hidden file: the manifest of the record does not list it
MIN_SECONDS = 2.0  # between two steps that are written


@dataclass(frozen=True)
class TrialPhase:
    """The phase of a running trial, the number of its completed optimizer steps, and the share of a load that is done.

    The share is between 0 and 1, and None where it is not known.
    """

    name: PhaseName
    step: int
    share: float | None = None


@dataclass(frozen=True)
class TrialProcess:
    """The process that holds a trial: its node and id, and when it began to train the trial, at which step.

    `began_seconds` counts since 1970, so that another process can read it; it is None before training.
    """

    node: str
    process_id: int
    began_seconds: float | None = None
    first_step: int = 0


@dataclass
class PhaseFile:
    """Writes the phase of the trial in `directory`: changes at once, steps of training at most every two seconds."""

    directory: Path
    name: PhaseName | None = None
    written_seconds: float = -math.inf
    began_seconds: float | None = None
    first_step: int = 0
    watch: Callable[[PhaseName, int], None] | None = None  # told of every step, also of those that are not written

    def show(self, name: PhaseName, step: int = 0, share: float | None = None) -> None:
        """Write the phase and the completed steps; a storage that refuses the file does not end the trial."""
        now = time.monotonic()
        if self.watch is not None:
            self.watch(name, step)
        if name == self.name and now - self.written_seconds < MIN_SECONDS:
            return
        self.name, self.written_seconds = name, now
        if name == "training" and self.began_seconds is None:
            self.began_seconds, self.first_step = time.time(), step
        body = {
            "phase": name, "step": step, "share": share, "node": platform.node(), "process_id": os.getpid(),
            "began_seconds": self.began_seconds, "first_step": self.first_step,
        }  # fmt: skip
        temporary = self.directory / f"{FILE}.tmp"
        with suppress(OSError):  # without fsync: after a crash nobody reads it
            temporary.write_text(json.dumps(body), encoding="utf-8")
            temporary.replace(self.directory / FILE)


def read_phase(directory: Path) -> TrialPhase | None:
    """Return the phase of the trial in `directory`; None before the first, and if the file cannot be read."""
    body = _read(directory)
    name, step = next((one for one in get_args(PhaseName) if one == body.get("phase")), None), body.get("step")
    share = body.get("share")
    known = float(share) if isinstance(share, int | float) else None
    return TrialPhase(name, step, known) if name is not None and isinstance(step, int) else None


def read_process(directory: Path) -> TrialProcess | None:
    """Return the process that last wrote the phase of the trial in `directory`; None if the file does not say."""
    body = _read(directory)
    node, process_id, began, first = (body.get(one) for one in ("node", "process_id", "began_seconds", "first_step"))
    if not isinstance(node, str) or not isinstance(process_id, int) or not isinstance(first, int):
        return None
    return TrialProcess(node, process_id, began if isinstance(began, float) else None, first)


def _read(directory: Path) -> dict[str, object]:
    try:
        body = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def forget_phase(directory: Path) -> None:
    """Delete the phase that an earlier launch left."""
    with suppress(OSError):
        (directory / FILE).unlink(missing_ok=True)

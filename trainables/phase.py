"""What a running trial does now, in a small file of its record that the launch shows; no result depends on it."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PhaseName = Literal["waiting", "loading", "self-test", "training", "eval"]
FILE = ".phase.json"  # a hidden file: the manifest of the record does not list it
MIN_SECONDS = 2.0  # between two steps that are written


@dataclass(frozen=True)
class TrialPhase:
    """The phase of a running trial, and the number of its completed optimizer steps."""

    name: PhaseName
    step: int


@dataclass
class PhaseFile:
    """Writes the phase of the trial in `directory`: changes at once, steps of training at most every two seconds."""

    directory: Path
    name: PhaseName | None = None
    written_seconds: float = -math.inf

    def show(self, name: PhaseName, step: int = 0) -> None:
        """Write the phase and the completed steps; a storage that refuses the file does not end the trial."""
        now = time.monotonic()
        if name == self.name and now - self.written_seconds < MIN_SECONDS:
            return
        self.name, self.written_seconds = name, now
        temporary = self.directory / f"{FILE}.tmp"
        with suppress(OSError):  # without fsync: after a crash nobody reads it
            temporary.write_text(json.dumps({"phase": name, "step": step}), encoding="utf-8")
            temporary.replace(self.directory / FILE)


def read_phase(directory: Path) -> TrialPhase | None:
    """Return the phase of the trial in `directory`; None before the first, and if the file cannot be read."""
    try:
        body = json.loads((directory / FILE).read_text(encoding="utf-8"))
        name, step = body["phase"], body["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return TrialPhase(name, step) if name in get_args(PhaseName) and isinstance(step, int) else None


def forget_phase(directory: Path) -> None:
    """Delete the phase that an earlier launch left."""
    with suppress(OSError):
        (directory / FILE).unlink(missing_ok=True)

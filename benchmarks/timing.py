"""Clocks and peaks: what a run took, read outside of what is timed."""

from __future__ import annotations

import ctypes
import gc
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

CLEAR_PEAK = Path("/proc/self/clear_refs")


def now(device: torch.device) -> float:
    """Return the seconds of the clock once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class StepClock:
    """Stands where a trial asks whether it must stop: before every step. Stops it before step `last` + 1, if given."""

    device: torch.device
    last: int | None = None
    times: list[float] = field(default_factory=list)

    def __call__(self) -> bool:
        """Note the time and tell whether to stop."""
        self.times.append(now(self.device))
        return self.last is not None and len(self.times) > self.last

    @property
    def step_seconds(self) -> list[float]:
        """Return the seconds of every step but the first, which warms up, and the last, which an eval follows."""
        return [later - earlier for earlier, later in zip(self.times[1:], self.times[2:], strict=False)]


def begin_peak(device: torch.device) -> None:
    """Forget the peak memory so far, where the system can."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_PEAK.exists():
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier run freed is not this one's
        CLEAR_PEAK.write_text("5")


def peak_mb(device: torch.device) -> float:
    """Return the peak since `begin_peak` in MB (10^6 bytes): allocated on a CUDA device, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if CLEAR_PEAK.exists():
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing: their median and how far they lie apart."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.values)

    def text(self, digits: int) -> str:
        """Write the median, and smallest to largest where there are several; a dash where there is none."""
        if not self.values:
            return "-"
        if len(self.values) == 1:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({min(self.values):,.{digits}f}–{max(self.values):,.{digits}f})"


def largest_difference(left: Mapping[str, Sequence[float]], right: Mapping[str, Sequence[float]]) -> float:
    """Return the largest absolute difference between two runs' losses, step by step as far as both went.

    Raises:
        ValueError: the runs have other trials.
    """
    if left.keys() != right.keys():
        raise ValueError(f"both runs must have the same trials, but {sorted(left.keys() ^ right.keys())} are in one")
    return max(abs(a - b) for name in left for a, b in zip(left[name], right[name], strict=False))

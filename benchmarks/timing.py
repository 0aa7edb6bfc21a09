"""Measures the time and the peak memory of a run."""

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
    """Return the clock's seconds after all queued work of the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class StepClock:
    """A stop check, which a trial calls before every step; it stops the trial before step `last` + 1, if given."""

    device: torch.device
    last: int | None = None
    times: list[float] = field(default_factory=list)

    def __call__(self) -> bool:
        """Record the time and return whether to stop."""
        self.times.append(now(self.device))
        return self.last is not None and len(self.times) > self.last

    @property
    def step_seconds(self) -> list[float]:
        """Return the seconds of every step but the first, which warms up, and the last, which an eval follows."""
        return [later - earlier for earlier, later in zip(self.times[1:], self.times[2:], strict=False)]


def begin_peak(device: torch.device) -> None:
    """Reset the peak memory, where the system supports it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_PEAK.exists():
        ctypes.CDLL(None).malloc_trim(0)  # memory that an earlier run freed must not count
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
    """Repeated measurements of one quantity: their median and range."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.values)

    def text(self, digits: int) -> str:
        """Return the median, with the range where there are several values; a dash where there is none."""
        if not self.values:
            return "-"
        if len(self.values) == 1:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({min(self.values):,.{digits}f}–{max(self.values):,.{digits}f})"


def largest_difference(left: Mapping[str, Sequence[float]], right: Mapping[str, Sequence[float]]) -> float:
    """Return the largest absolute difference between the losses of two runs, over the steps that both have.

    Raises:
        ValueError: the runs have different trials.
    """
    if left.keys() != right.keys():
        raise ValueError(f"both runs must have the same trials, but {sorted(left.keys() ^ right.keys())} are in one")
    return max(abs(a - b) for name in left for a, b in zip(left[name], right[name], strict=False))

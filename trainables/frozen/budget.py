"""How much memory kept activations may take, from the memory that is free."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SHARE, MOST_BYTES = 0.1, 8 * 2**30  # several engines of a node start at the same time, each beside its own base
CGROUP = Path("/sys/fs/cgroup")
LIMITS = ((CGROUP / "memory.max", CGROUP / "memory.current"),
          (CGROUP / "memory/memory.limit_in_bytes", CGROUP / "memory/memory.usage_in_bytes"))  # fmt: skip


def memory_budget(free_bytes: Iterable[int | None]) -> int:
    """Return a tenth of the least of the known amounts of free memory, at most 8 GiB; 0 if none is known."""
    known = [one for one in free_bytes if one is not None]
    return min(int(SHARE * max(0, min(known))), MOST_BYTES) if known else 0


def free_memory() -> list[int | None]:
    """Return the free memory of the machine, and that of the container, each None where it is not known."""
    return [_machine(), *(_container(most, used) for most, used in LIMITS)]


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _container(most: Path, used: Path) -> int | None:
    try:
        limit, taken = most.read_text(encoding="ascii").strip(), used.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(limit) - int(taken) if limit.isdecimal() and taken.isdecimal() else None

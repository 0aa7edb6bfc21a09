"""The memory of the devices that a launch trains on: as told by `--memory`, or as found on this machine."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import dataclass

from trainables.errors import UserError, named

GIGABYTE = 10**9
QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
QUERY_SECONDS = 10


@dataclass(frozen=True)
class Devices:
    """The bytes of each device of a node; `are_given` says that the user named them, and not this machine."""

    bytes_each: tuple[int, ...]
    are_given: bool = False

    @property
    def largest(self) -> int:
        """Return the bytes of the largest device."""
        return max(self.bytes_each)


def devices_in(text: str) -> Devices | None:
    """Return the devices that `--memory` names, gigabytes of each; None if it is not given.

    Raises:
        UserError: a part is no number of gigabytes above 0.
    """
    if not text:
        return None
    sizes = []
    for part in text.split(","):
        try:
            size = float(part)
        except ValueError:
            size = math.nan
        if not 0 < size < 1e6:
            raise UserError(f"--memory must be gigabytes of each device above 0, but got `{named(text)}`",
                            "--memory 24 is one device, --memory 24,24 are two")  # fmt: skip
        sizes.append(int(size * GIGABYTE))
    return Devices(tuple(sizes), are_given=True)


def devices_here() -> Devices:
    """Return the GPUs of this machine, or without one the memory that is free for a process on its CPUs."""
    if shutil.which(QUERY[0]):
        try:
            told = subprocess.run(QUERY, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True).stdout  # noqa: S603
            sizes = tuple(int(line) * 2**20 for line in told.split() if line.isdecimal())
        except (OSError, subprocess.SubprocessError):
            sizes = ()
        if sizes:
            return Devices(sizes)
    import psutil

    return Devices((psutil.virtual_memory().available,))


def checked_price(price: float | None) -> float | None:
    """Return a price per device and hour, in any currency.

    Raises:
        UserError: it is below 0 or no finite number.
    """
    if price is not None and not 0 <= price < math.inf:
        raise UserError(f"--price must be 0 or more for an hour of one device, but got {price:g}", "--price 2.5")
    return price

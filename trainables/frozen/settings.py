"""Where activations are kept: in memory, and in files of limited size."""

from __future__ import annotations

from dataclasses import dataclass

GIGABYTE = 10**9


@dataclass(frozen=True)
class CacheSettings:
    """Whether frozen activations are kept, and the directory and most bytes of their files; no directory, no files.

    No result depends on these settings, beyond the rounding of another batch shape where `is_on` differs.
    """

    is_on: bool = True
    directory: str = ""
    file_bytes: int = 0


IN_MEMORY, OFF = CacheSettings(), CacheSettings(is_on=False)

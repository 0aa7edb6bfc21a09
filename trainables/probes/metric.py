"""A metric: its name, its direction and what it measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A number a trial reports: `direction` says which way is better, `counts` what exactly was counted."""

    name: str
    direction: Direction
    unit: str
    counts: str

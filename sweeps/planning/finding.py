"""The result type of the preflight checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweeps.planning.data_quality import (
    Rows,
)

Level = Literal["refuse", "warn"]


@dataclass(frozen=True)
class PreflightFinding:
    """A problem that a check found, a hint, and the trials it concerns.

    A finding without trials is about the data and concerns all trials, including baselines.
    """

    level: Level
    check: str
    message: str
    hint: str
    trials: tuple[str, ...] = ()

    def concerns(self, trial: str) -> bool:
        """True when the trial of this name is affected."""
        return not self.trials or trial in self.trials


def named_rows(rows: Rows) -> str:
    """Return the count of the rows and the first ids, as "3 of 40 (a, b, c)"."""
    more = ", ..." if rows.count > len(rows.first) else ""
    return f"{rows.count:,} of {rows.total:,} ({', '.join(rows.first)}{more})"

"""A finding of the checks before a launch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweeps.planning.data_quality import (
    Rows,
)

Level = Literal["refuse", "warn"]


@dataclass(frozen=True)
class PreflightFinding:
    """What a check found, what to do about it, and in which trials.

    A finding without trials is about the data and concerns all trials, baselines too.
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
    more = ", ..." if rows.count > len(rows.first) else ""
    return f"{rows.count:,} of {rows.total:,} ({', '.join(rows.first)}{more})"

"""What a preflight check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweeps.planning.data_quality import (
    Rows,
)

Level = Literal["refuse", "warn"]


@dataclass(frozen=True)
class PreflightFinding:
    """What is wrong: the check that found it, what must hold and what was found, what to do, and in which trials.

    No trial named means the data, which concerns all of them, the baseline too.
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

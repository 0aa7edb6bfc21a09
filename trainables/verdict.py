"""How a trial ended."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from trainables.io.files import read_model
from trainables.spec import Frozen

VERDICT = "verdict.json"
VerdictKind = Literal["completed", "pruned", "invalid", "infeasible", "failed"]


class Verdict(Frozen):
    """Why a trial ended: the kind, the guard or check that ended it (`cause`), and the reason with numbers.

    `value` and `limit` are the value and limit of the metric whose guard stopped the trial. They are None when no guard
    stopped it, and in records of an earlier version.
    """

    kind: VerdictKind
    step: int
    cause: str | None = None
    reason: str | None = None
    value: float | None = None
    limit: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}({self.cause})" if self.cause else self.kind


def read_verdict(directory: Path, hint: str) -> Verdict | None:
    """Return the verdict in a directory, or None if it has none.

    Raises:
        FileDamaged: the file is no verdict; `hint` says what to do.
    """
    path = directory / VERDICT
    return read_model(path, Verdict, hint) if path.exists() else None

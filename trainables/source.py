"""What a trial reads: files and directories by path and hash, and the probes that it is asked for with their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

ProbeSuite = Literal["shift", "lm-eval"]


class Frozen(BaseModel):
    """Base class of immutable values; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Frozen):
    """A file or directory that a trial reads: its path, and the hash of its content when the study was planned."""

    path: Path
    sha256: str


class ProbeRequest(Frozen):
    """A probe that a study asks for beside its own: the shift, or a task of a suite.

    `task` is its name in the suite, `config` the YAML file of an own task, and `rows` the file that takes the place of
    the task's own data.
    """

    suite: ProbeSuite
    task: str = ""
    config: Source | None = None
    rows: Source | None = None

    def identity(self) -> dict[str, Any]:
        """Return the values that affect the result: files by their hash."""
        files = {"config": self.config, "rows": self.rows}
        named = {name: one.sha256 for name, one in files.items() if one is not None}
        return {"suite": self.suite, **({"task": self.task} if self.task else {}), **named}

"""An MLflow store in memory, for the functions of `trainables.mlflow_store` that a tracker calls; it can be down."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainables.mlflow_store import Point, StoredRun

EQUALS = re.compile(r"(?:tags\.`([^`]+)`|attributes\.(status)) = '([^']*)'")


class StoreDown(OSError):
    """The store does not answer."""


@dataclass
class FakeStore:
    """Runs by id, with every point of their metrics; `is_down` refuses every call."""

    runs: dict[str, StoredRun] = field(default_factory=dict)
    points: dict[tuple[str, str, int], float] = field(default_factory=dict)
    is_down: bool = False
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the store in MLflow's place."""
        client = SimpleNamespace(
            get_experiment=lambda _: SimpleNamespace(creation_time=0, tags={}),
            set_experiment_tag=lambda *_: None,
        )
        calls: dict[str, Any] = {
            "connect": lambda _: client, "experiment_id": lambda *_: "1", "runs_of": self.runs_of,
            "create_run": self.create, "end_run": self.end, "reopen_run": self.reopen, "log_tags": self.tag,
            "log_batch": self.log, "log_data_files": self.set_inputs,
        }  # fmt: skip
        for name, call in calls.items():
            patch.setattr(f"trainables.mlflow_store.{name}", self._answering(call))
        for name in ("log_file", "log_adapter"):
            patch.setattr(f"sweeps.tracking.tracker.{name}", self._answering(lambda *_: None))
        for module in ("tracker", "mirror", "sync"):
            patch.setattr(f"sweeps.tracking.{module}.outages", lambda: (StoreDown,))

    def _answering(self, call: Any) -> Any:
        def answer(*arguments: Any) -> Any:
            if self.is_down:
                raise StoreDown("connection refused")
            return call(*arguments)

        return answer

    def runs_of(self, _client: Any, _experiment: str, condition: str = "") -> list[StoredRun]:
        wanted = EQUALS.findall(condition)
        return [
            run
            for run in reversed(self.runs.values())
            if all((run.tags.get(tag) if tag else run.status) == value for tag, _, value in wanted)
        ]

    def create(self, _client: Any, _experiment: str, name: str, tags: Mapping[str, str], ms: int = 0) -> StoredRun:
        run = StoredRun(str(next(self.numbers)), name, "RUNNING", ms, dict(tags), {}, {}, False, "")
        self.runs[run.run_id] = run
        return run

    def end(self, _client: Any, run_id: str, status: str, _ms: int | None = None) -> None:
        self._change(run_id, status=status)

    def reopen(self, _client: Any, run_id: str, without: Sequence[str]) -> None:
        kept = {key: value for key, value in self.runs[run_id].tags.items() if key not in without}
        self._change(run_id, status="RUNNING", tags=kept)

    def tag(self, _client: Any, run_id: str, tags: Mapping[str, str]) -> None:
        self._change(run_id, tags={**self.runs[run_id].tags, **tags})

    def set_inputs(self, _client: Any, run_id: str, _files: Any) -> None:
        self._change(run_id, has_inputs=True)

    def log(
        self, _client: Any, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        run = self._known(run_id)
        for point in points:
            self.points[run_id, point.key, point.step] = point.value
        self._change(run_id, params={**run.params, **params}, tags={**run.tags, **tags})

    def _known(self, run_id: str) -> StoredRun:
        if run_id not in self.runs:
            raise StoreDown(f"run {run_id} does not exist")  # as MLflow says of a deleted one
        return self.runs[run_id]

    def _change(self, run_id: str, **values: Any) -> None:
        self.runs[run_id] = replace(self._known(run_id), **values)

    def shown(self) -> dict[str, dict[str, Any]]:
        """Return what the store shows of each trial, without what depends on the launch that wrote it."""
        own = ("mlflow.parentRunId", "footprint.synced.")
        return {
            Path(run.tags["record"]).name: {
                "status": run.status,
                "tags": {key: value for key, value in run.tags.items() if not key.startswith(own)},
                "params": run.params,
                "points": {one[1:]: value for one, value in self.points.items() if one[0] == run.run_id},
            }
            for run in self.runs.values()
            if run.tags["footprint.kind"] == "trial"
        }

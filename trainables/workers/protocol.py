"""What a seat and an engine say to each other: the rules a trial is held to, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.constraint import Constraint
from trainables.decision import Guard
from trainables.probes.probe import Baseline
from trainables.record import Record

Standing = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """What every trial of a study is held to: baselines by their trial id, guards, the constraint on the best eval."""

    baselines: Mapping[str, Baseline]
    guards: Sequence[Guard]
    constraint: Constraint


def standing(record: Record, stopped: bool) -> Standing:
    """Return what a seat reports to Ray Tune: the newest eval and its step, the verdict, and whether the seat is done.

    Ray's schedulers see the eval's metrics as `eval/<name>`.
    """
    evals, verdict = record.evals(), record.verdict()
    return {
        "record": str(record.directory),
        "step": evals[-1].step if evals else 0,
        "eval": dict(evals[-1].metrics) if evals else {},
        "verdict": str(verdict) if verdict else None,
        "done": verdict is not None or stopped,
    }

"""The labels of a result besides its verdict: success criteria, degraded health checks, overridden preflight checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainables.io.files import FileDamaged, read_json
from trainables.record import RUN_AGAIN, Record

LABELLED = ("completed", "pruned")  # with any other verdict the measurements are not a valid result


def labels_of(record: Record) -> dict[str, str]:
    """Return the labels of a result besides its verdict, keyed as its tags in MLflow.

    `criteria` is `none`, `minimum` or `optimal`: the highest level whose criteria are met (`optimal` includes
    `minimum`); it is absent if the trial has no result. `degraded` and `overridden` are checks separated by commas,
    absent if there are none.

    Raises:
        FileDamaged: one of the files has another shape.
    """
    verdict, written = record.verdict(), record.directory / "labels.json"
    found: dict[str, str] = {}
    path = record.directory / "overridden.json"
    try:
        if path.exists():
            found["overridden"] = _checks(read_json(path))
        if verdict is not None and verdict.kind in LABELLED and written.exists():
            path = written
            found |= _criteria(read_json(written))
    except (KeyError, TypeError, AttributeError):
        raise FileDamaged(f"{path}: labels must be as they were written, but the file has another shape",
                          RUN_AGAIN) from None  # fmt: skip
    return found


def _criteria(labels: Mapping[str, Any]) -> dict[str, str]:
    most = "optimal" if labels["optimal"]["met"] else "minimum"
    degraded = {"degraded": _checks(labels["degraded"])} if labels["degraded"] else {}
    return {"criteria": most if labels["minimum"]["met"] else "none", **degraded}


def _checks(findings: Iterable[Mapping[str, Any]]) -> str:
    return ",".join(dict.fromkeys(one["check"] for one in findings))

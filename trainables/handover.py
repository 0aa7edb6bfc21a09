"""Where a continued adapter comes from, and what it scored there: its first eval is held against its parent's last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.record import Record, read_json
from trainables.spec import TrialSpec, parse_spec

LINEAGE = "lineage.json"


@dataclass(frozen=True)
class Origin:
    """The trial that left an adapter: its spec, the step of the adapter, the eval there, and its own lineage."""

    spec: TrialSpec
    step: int
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any] | None


@dataclass(frozen=True)
class ParentEval:
    """The parent's eval loss (nats per token) on rows this trial measures too: validation (0) or an earlier stage."""

    loss: float
    stage: int


def origin_of(directory: Path) -> Origin | None:
    """Return the trial that left `directory` (a `best/` or a checkpoint), None for an adapter from elsewhere."""
    try:
        if (directory / "provenance.json").is_file():
            kept = read_json(directory / "provenance.json")
            return Origin(parse_spec(kept["spec"]), kept["step"], kept["metrics"], kept.get("lineage"))
        record = Record(directory.parent.parent)
        step = int(directory.name.removeprefix("step-"))
        metrics = {one.step: one.metrics for one in record.evals()}[step]
        return Origin(record.spec(), step, metrics, lineage_in(record))
    except (OSError, UserError, KeyError, ValueError):
        return None


def lineage_in(record: Record) -> dict[str, Any] | None:
    """Return the lineage a continued trial wrote when it opened, None of a trial that began anew."""
    path = record.directory / LINEAGE
    return read_json(path) if path.is_file() else None


def parent_eval(spec: TrialSpec) -> ParentEval | None:
    """Return what the parent scored on rows this trial measures too, None where that is not known.

    An adapter from elsewhere has no record; a parent on other rows, another base or quantization says nothing here.
    """
    origin = origin_of(spec.init_from.path) if spec.init_from else None
    if origin is None or origin.spec.base.sha256 != spec.base.sha256 or origin.spec.quantization != spec.quantization:
        return None
    measured = [spec.validation.sha256, *(source.sha256 for source in spec.earlier)]
    if origin.spec.validation.sha256 not in measured:
        return None
    return ParentEval(origin.metrics["eval_loss"], measured.index(origin.spec.validation.sha256))


def lineage_of(spec: TrialSpec, base_standing: str, new_modules: int) -> dict[str, Any]:
    """Describe where a continued trial's adapter comes from: how it is continued, and all ancestors, parent first.

    Rates are the peaks of their trials; what came from elsewhere is known by its directory and hash alone.
    """
    if spec.init_from is None:
        raise ValueError(f"trial {spec.name} continues nothing")
    origin = origin_of(spec.init_from.path)
    parent: dict[str, Any] = {"directory": str(spec.init_from.path), "sha256": spec.init_from.sha256}
    if origin is not None:
        same = ("learning_rate", "vision_learning_rate", "steps")
        known = {"trial": origin.spec.name, "trial_id": origin.spec.trial_id, "step": origin.step}
        parent |= known | {key: getattr(origin.spec, key) for key in same}
        parent["eval_loss"] = origin.metrics["eval_loss"]
    return {
        "continuation": spec.continuation,
        "optimizer": spec.optimizer,
        "base": base_standing,
        "new_modules": new_modules,
        "ancestors": [parent, *((origin.lineage or {}).get("ancestors", []) if origin else [])],
    }

"""Where a continued adapter comes from, and what it scored there: its first eval is held against its parent's last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter_config import read_object
from trainables.errors import UserError, quoted
from trainables.io.files import RecordDamaged, read_json
from trainables.record import Record
from trainables.spec import TrialSpec, read_spec

PROVENANCE = "provenance.json"


COPY_HINT = "copy it again from where the adapter was trained, or delete it: the adapter alone can be used"


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
            return Origin(read_spec(kept["spec"]), kept["step"], kept["metrics"], kept.get("lineage"))
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


@dataclass(frozen=True)
class Trained:
    """The trial an adapter comes from, at which step, and the experiment it belongs to, None where that is unknown."""

    spec: TrialSpec
    step: int
    experiment: str | None


def trained_by(directory: Path) -> Trained | None:
    """Return what the `provenance.json` of an adapter says, or the record it is a checkpoint of; None says neither.

    Raises:
        UserError: a file that is there cannot be read.
    """
    path = directory / PROVENANCE
    if path.is_file():
        return _told_by(path)
    record, step = Record(directory.resolve().parent.parent), directory.name.removeprefix("step-")
    if directory.name == step or not step.isdecimal() or not (record.directory / "spec.json").is_file():
        return None
    try:
        return Trained(record.spec(), int(step), experiment_of(record))
    except RecordDamaged as error:  # input here, not a record to resume
        raise UserError(error.message, "copy the adapter's directory elsewhere: it can be used alone") from None


def _told_by(path: Path) -> Trained | None:
    kept = read_object(path, COPY_HINT)
    if "spec" not in kept:  # other tools leave files of this name too
        return None
    step, experiment = kept.get("step"), kept.get("experiment")
    if not isinstance(step, int) or not isinstance(experiment, str | None):
        raise UserError(
            f"{path}: `step` must be a whole number and `experiment` a text, but got {quoted((step, experiment))}",
            COPY_HINT,
        )
    return Trained(read_spec(kept["spec"], where=str(path)), step, experiment)


def experiment_of(record: Record) -> str | None:
    """Return the experiment a record lies in, `<storage>/<experiment>/trials/<trial>`, None where it lies elsewhere."""
    trials = record.directory.resolve().parent
    return trials.parent.name if trials.name == "trials" else None

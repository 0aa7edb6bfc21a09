"""Finds the trial that wrote an adapter, its eval at that step, and the ancestors of a continued adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter_config import read_object
from trainables.errors import UserError, quoted
from trainables.io.files import FileDamaged, read_json
from trainables.model.base_files import is_same_base
from trainables.record import Record
from trainables.spec import TrialSpec, read_spec

PROVENANCE, SPEC, LINEAGE = "provenance.json", "spec.json", "lineage.json"
COPY_HINT = "copy it again from where the adapter was trained, or delete it: the adapter can be used without it"


@dataclass(frozen=True)
class Origin:
    """The trial that wrote an adapter: its spec, the adapter's step, the trial's experiment if known.

    `metrics` are those of the eval at this step, empty if there is none; `lineage` is that of the trial itself, None if
    it continued no adapter.
    """

    spec: TrialSpec
    step: int
    experiment: str | None
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any] | None


@dataclass(frozen=True)
class ParentEval:
    """The parent's eval loss (nats per token) on rows that this trial evaluates too.

    `stage` is the position of these rows: 0 for the validation rows, then the rows of earlier stages.
    """

    loss: float
    stage: int


def read_origin(directory: Path) -> Origin | None:
    """Read which trial wrote an adapter: from its `provenance.json`, else from the record that contains it.

    Returns None for an adapter from elsewhere.

    Raises:
        UserError: a file cannot be read or is invalid; names file and key.
    """
    path = directory / PROVENANCE
    return _from_provenance(path) if path.is_file() else _from_record(directory)


def _from_provenance(path: Path) -> Origin | None:
    kept = read_object(path, COPY_HINT)
    if "spec" not in kept:  # other tools write files of this name too
        return None
    step, experiment = kept.get("step"), kept.get("experiment")
    if not isinstance(step, int) or not isinstance(experiment, str | None):
        raise UserError(
            f"{path}: `step` must be a whole number and `experiment` a text, but got {quoted((step, experiment))}",
            COPY_HINT,
        )
    spec = read_spec(kept["spec"], where=str(path))
    return Origin(spec, step, experiment, kept.get("metrics") or {}, kept.get("lineage"))


def _from_record(directory: Path) -> Origin | None:
    record, step = Record.at(directory.resolve().parent.parent), directory.name.removeprefix("step-")
    if directory.name == step or not step.isdecimal() or not (record.directory / SPEC).is_file():
        return None
    try:
        spec = record.spec()
    except FileDamaged as error:  # the record is input here, and not resumed
        raise UserError(
            error.message, "copy the adapter's directory elsewhere: it can be used without its record"
        ) from None
    metrics, lineage = _measured_at(record, int(step))
    return Origin(spec, int(step), experiment_of(record), metrics, lineage)


def _measured_at(record: Record, step: int) -> tuple[Mapping[str, float], Mapping[str, Any] | None]:
    """Return the metrics of the eval at a step and the trial's lineage; nothing if the record is damaged."""
    try:
        evals = {one.step: one.metrics for one in record.evals()}
        return evals.get(step, {}), lineage_in(record)
    except (OSError, UserError):
        return {}, None


def origin_of(directory: Path) -> Origin | None:
    """Return the trial that wrote an adapter and its eval, None if either is unknown or cannot be read."""
    try:
        origin = read_origin(directory)
    except (OSError, UserError):
        return None
    return origin if origin and origin.metrics else None


def recorded_base(directory: Path) -> str | None:
    """Return the base's sha256 from `provenance.json` or the record, None if neither holds it.

    Only this value is read, so that a spec with keys of another version still identifies its base.
    """
    for path, keys in ((directory / PROVENANCE, ("spec", "base")), (directory.parent.parent / SPEC, ("base",))):
        values: Any = read_json(path) if path.is_file() else None
        for key in keys:
            values = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(values.get("sha256"), str):
            return values["sha256"]
    return None


def lineage_in(record: Record) -> dict[str, Any] | None:
    """Return the lineage that a continued trial wrote at its start, None for a trial that continues no adapter."""
    path = record.directory / LINEAGE
    return read_json(path) if path.is_file() else None


def parent_eval(spec: TrialSpec) -> ParentEval | None:
    """Return the parent's eval loss on rows that this trial evaluates too, None if there is none.

    An adapter from elsewhere has no record; losses on other rows, another base or quantization are not comparable.
    """
    origin = origin_of(spec.init_from.path) if spec.init_from else None
    if origin is None or origin.spec.quantization != spec.quantization:
        return None
    if not is_same_base(origin.spec.base.sha256, spec.base):
        return None
    measured = [spec.validation.sha256, *(source.sha256 for source in spec.earlier)]
    if origin.spec.validation.sha256 not in measured:
        return None
    return ParentEval(origin.metrics["eval_loss"], measured.index(origin.spec.validation.sha256))


def lineage_of(spec: TrialSpec, base_match: str, new_modules: int) -> dict[str, Any]:
    """Return how a trial continues its parent adapter, and all ancestors, parent first.

    Learning rates are the peaks of their trials. An adapter from elsewhere has only a directory and a hash.
    """
    if spec.init_from is None:
        raise ValueError(f"trial {spec.name} continues no adapter")
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
        "base": base_match,
        "new_modules": new_modules,
        "ancestors": [parent, *((origin.lineage or {}).get("ancestors", []) if origin else [])],
    }


def experiment_of(record: Record) -> str | None:
    """Return the experiment of a record, from `<storage>/<experiment>/trials/<trial>`, None if it is elsewhere."""
    trials = record.home.resolve().parent
    return trials.parent.name if trials.name == "trials" else None

"""What a continued adapter scored where it came from, so that its first eval can be held against its parent's last."""

from __future__ import annotations

from trainables.errors import UserError
from trainables.record import Record, read_json
from trainables.spec import TrialSpec, parse_spec


def parent_eval_loss(spec: TrialSpec) -> float | None:
    """Return the parent's eval loss on the very rows this trial validates on, None where it is not known.

    An adapter from elsewhere has no record; a parent on other rows, another base or quantization says nothing here.
    """
    if spec.init_from is None:
        return None
    directory = spec.init_from.path
    try:
        if (directory / "provenance.json").is_file():
            provenance = read_json(directory / "provenance.json")
            parent, metrics = parse_spec(provenance["spec"]), provenance["metrics"]
        else:
            record = Record(directory.parent.parent)
            parent, step = record.spec(), int(directory.name.removeprefix("step-"))
            metrics = {one.step: one.metrics for one in record.evals()}[step]
    except (OSError, UserError, KeyError, ValueError):
        return None
    same = ("base", "validation")
    if any(getattr(parent, key).sha256 != getattr(spec, key).sha256 for key in same):
        return None
    return metrics["eval_loss"] if parent.quantization == spec.quantization else None

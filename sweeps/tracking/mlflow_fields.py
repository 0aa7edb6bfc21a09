"""Converts a record to MLflow params, tags, metrics and artifacts; the result depends on the record only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from sweeps.tracking.view import deciding
from trainables.checkpoints.lineage import lineage_in
from trainables.data_files import mix_of
from trainables.frozen.keeping_file import KEEPING_FILE
from trainables.known_baselines import MEASURED_BY, measured_by
from trainables.memory_file import MEMORY_FILE
from trainables.mlflow_models import LoggedAdapter
from trainables.mlflow_store import Point
from trainables.record import BEST, Measurement, Record
from trainables.spec import TrialSpec
from trainables.verdict import Verdict

TAG_LETTERS = 5000  # the length that every MLflow store accepts


def params_of(spec: TrialSpec) -> dict[str, str]:
    """Return the main settings; every run has all of them, because MLflow's parallel coordinates omit other runs."""
    values: dict[str, Any] = {
        "language_layers": spec.placement.language,
        "vision_blocks": spec.placement.vision,
        "language_indices": list(spec.placement.language_indices),
        "vision_indices": list(spec.placement.vision_indices),
        "modules": spec.placement.modules,
        "rslora": int(spec.rslora),
        "effective_rows": spec.effective_rows,
        **({"replay": mix_of(spec)} if spec.replay else {}),  # coordinates need numbers in every run
    }
    fields = ("rank", "alpha", "dropout", "learning_rate", "vision_learning_rate", "adam_beta2", "quantization",
              "replay_ratio", "steps", "seed")  # fmt: skip
    return {key: str(value) for key, value in {**values, **{key: getattr(spec, key) for key in fields}}.items()}


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """Return the tags that explain why a trial ended."""
    names = ("kind", "cause", "reason", "step", "limit")
    parts = {name: getattr(verdict, name) for name in names}
    tags = {f"verdict.{part}": str(value)[:TAG_LETTERS] for part, value in parts.items() if value is not None}
    return {"verdict": str(verdict), **tags}


def lineage_tags(record: Record) -> dict[str, str]:
    """Return the ids, hashes and rates of the adapters that a trial continues, parent first; empty without a parent.

    A baseline that has its results from another record names that one.
    """
    spec, kept = record.spec(), lineage_in(record)
    if spec.init_from is None:
        source = measured_by(record) if spec.placement.is_baseline else None
        return {MEASURED_BY: str(source)[:TAG_LETTERS]} if source else {}
    tags = {"parent_directory": str(spec.init_from.path), "parent_sha256": spec.init_from.sha256,
            "continuation": spec.continuation, "optimizer": spec.optimizer}  # fmt: skip
    if kept is not None:  # the file is written when the trial starts
        ancestors = kept["ancestors"]
        tags["parent_base"] = kept["base"]
        for name, key in (("parent", "trial_id"), ("parent_name", "trial"), ("parent_step", "step")):
            tags |= {name: str(ancestors[0][key])} if key in ancestors[0] else {}
        known = [one for one in ancestors if "trial_id" in one]
        tags["ancestors"] = ",".join(one["trial_id"] for one in known)
        tags["ancestor_sha256"] = ",".join(one["sha256"] for one in ancestors)
        tags["rates"] = ",".join(f"{rate:g}" for rate in (spec.learning_rate, *(o["learning_rate"] for o in known)))
    return {f"footprint.{name}": value[:TAG_LETTERS] for name, value in tags.items() if value}


def curve_key(measurement: Measurement, name: str) -> str:
    """Return the key of a metric's curve: `train/…`, `eval/…`, or `deciding/…` for what decides in an eval.

    MLflow's compare page selects the first metric that all runs have: the first that was logged, or the first by name.
    """
    decides = measurement.kind == "eval" and name in deciding(measurement.metrics)
    return f"{'deciding' if decides else measurement.kind}/{name}"


def curve_points(measurements: Iterable[Measurement], start_ms: int) -> Iterator[Point]:
    """Yield the points of all curves at their optimizer step, with timestamps from `wall_seconds`."""
    timestamp_ms = start_ms
    for one in measurements:
        if "wall_seconds" in one.metrics:
            timestamp_ms = start_ms + round(1000 * one.metrics["wall_seconds"])
        points = [Point(curve_key(one, name), value, timestamp_ms, one.step) for name, value in one.metrics.items()]
        yield from sorted(points, key=lambda point: point.key)


def summary_points(
    measurements: Sequence[Measurement], best: Measurement | None, ended_ms: int, with_all: bool = False
) -> list[Point]:
    """Return `best/<metric>` of the best eval, for the metrics that decide and the loss that chose it.

    All have step 0: MLflow shows the value of the highest step, and a trial that is run again may end at a lower one.
    For such a trial, `with_all` adds `final/<metric>` of every metric, because its curves show the former end.
    """
    values = {f"best/{name}": value for name, value in deciding(best.metrics).items()} if best else {}
    if best is not None and "eval_loss" in best.metrics:
        values["best/eval_loss"] = best.metrics["eval_loss"]
    if with_all:
        last = {one.kind: one.metrics for one in measurements}
        values |= {f"final/{name}": value for kind in ("train", "eval") for name, value in last.get(kind, {}).items()}
    return [Point(key, value, ended_ms, 0) for key, value in values.items()]


def best_of(record: Record) -> Measurement | None:
    """Return the eval of the best checkpoint; that of a baseline is its only eval."""
    if record.spec().placement.is_baseline:
        return next(reversed(record.evals()), None)
    return record.best()


def adapter_of(record: Record) -> LoggedAdapter | None:
    """Return the best adapter as a logged model, without its optimizer; None if no eval met the constraint."""
    best, spec = record.best(), record.spec()
    if best is None:
        return None
    directory = record.directory / BEST
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("optimizer"))
    digest = sha256(b"".join(path.read_bytes() for path in files if path.suffix == ".safetensors")).hexdigest()
    metrics = {f"best/{name}": value for name, value in deciding(best.metrics).items()}
    return LoggedAdapter(spec.name, files, digest, best.step, params_of(spec), metrics)


def artifacts_of(record: Record) -> Iterator[tuple[Path, str | None]]:
    """Yield the files to upload, each with its folder in MLflow: spec, measurements, checks, samples."""
    yield record.directory / "spec.json", "config"
    for name in ("metrics.jsonl", "placement.json", "lineage.json", "battery.json", "labels.json", "overridden.json",
                 MEMORY_FILE, KEEPING_FILE):  # fmt: skip
        if (record.directory / name).exists():
            yield record.directory / name, None
    steps = [one.step for one in record.evals()]
    samples = record.directory / "samples" / f"step-{max(steps, default=0)}.jsonl"
    if samples.exists():
        yield samples, "samples"

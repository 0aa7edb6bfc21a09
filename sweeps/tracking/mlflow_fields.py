"""Converts a record to MLflow params, tags, metrics and artifacts; the result depends on the record only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trainables.checkpoints.lineage import lineage_in
from trainables.mlflow_store import Point
from trainables.record import Measurement, Record, Verdict
from trainables.spec import TrialSpec

TAG_LETTERS = 5000  # the length that every MLflow store accepts


def params_of(spec: TrialSpec) -> dict[str, str]:
    """Return the main settings; every run has all of them, because MLflow's parallel coordinates omit other runs."""
    values: dict[str, Any] = {
        "language_layers": spec.placement.language,
        "vision_blocks": spec.placement.vision,
        "rslora": int(spec.rslora),
        "effective_rows": spec.effective_rows,
    }
    fields = ("rank", "alpha", "dropout", "learning_rate", "vision_learning_rate", "adam_beta2", "quantization",
              "steps", "seed")  # fmt: skip
    return {key: str(value) for key, value in {**values, **{key: getattr(spec, key) for key in fields}}.items()}


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """Return the tags that explain why a trial ended."""
    names = ("kind", "cause", "reason", "step", "limit")
    parts = {name: getattr(verdict, name) for name in names}
    tags = {f"verdict.{part}": str(value)[:TAG_LETTERS] for part, value in parts.items() if value is not None}
    return {"verdict": str(verdict), **tags}


def lineage_tags(record: Record) -> dict[str, str]:
    """Return the ids, hashes and rates of the adapters that a trial continues, parent first; empty without a parent."""
    spec, kept = record.spec(), lineage_in(record)
    if spec.init_from is None:
        return {}
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


def curve_points(measurements: Iterable[Measurement], start_ms: int) -> Iterator[Point]:
    """Yield `train/<metric>` and `eval/<metric>` at their optimizer step, with timestamps from `wall_seconds`."""
    timestamp_ms = start_ms
    for one in measurements:
        if "wall_seconds" in one.metrics:
            timestamp_ms = start_ms + round(1000 * one.metrics["wall_seconds"])
        for name, value in one.metrics.items():
            yield Point(f"{one.kind}/{name}", value, timestamp_ms, one.step)


def summary_points(measurements: Iterable[Measurement], best: Measurement | None, ended_ms: int) -> list[Point]:
    """Return `final/<metric>` (of the last eval and the last training measurement) and `best/<metric>`.

    All have step 0: MLflow shows the value of the highest step, and a trial that is run again may end at a lower one.
    """
    last = {one.kind: one.metrics for one in measurements}
    final = {**last.get("train", {}), **last.get("eval", {})}
    values = {f"final/{name}": value for name, value in final.items()}
    values |= {f"best/{name}": value for name, value in (best.metrics if best else {}).items()}
    return [Point(key, value, ended_ms, 0) for key, value in values.items()]


def artifacts_of(record: Record) -> Iterator[tuple[Path, str | None]]:
    """Yield the files to upload, each with its folder in MLflow: spec, measurements, checks, samples, best adapter."""
    yield record.directory / "spec.json", "config"
    for name in ("metrics.jsonl", "placement.json", "lineage.json", "battery.json", "labels.json", "overridden.json"):
        if (record.directory / name).exists():
            yield record.directory / name, None
    steps = [one.step for one in record.evals()]
    samples = record.directory / "samples" / f"step-{max(steps, default=0)}.jsonl"
    if samples.exists():
        yield samples, "samples"
    if record.best() is not None:
        best = record.directory / "best"
        for file in sorted(path for path in best.rglob("*") if path.is_file()):
            if not file.name.startswith("optimizer"):
                yield file, str(Path("adapter") / file.relative_to(best).parent)

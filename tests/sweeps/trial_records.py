"""Writes records as an engine does, without an engine."""

from __future__ import annotations

from pathlib import Path

from trainables.io.files import write_json
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec

# Every eval carries all of these, as the engine writes them.
EVAL_METRICS = ("eval_loss", "exact_match", "irrelevant_pass", "adapter_parameters")


def running_record(
    root: Path, name: str = "C2-L2-V2", language: int = 2, vision: int = 2, steps: tuple[int, ...] = (30, 60),
    arm: str = "C2",
) -> Record:  # fmt: skip
    sources = {key: Source(path=root / f"{key}.jsonl", sha256=key * 12) for key in ("train", "validation", "ood")}
    spec = TrialSpec(
        name=name,
        arm=arm,
        base=Source(path=root / "base", sha256="ba5e"),
        placement=Placement(language=language, vision=vision),
        **sources,
    )
    record = Record(root / "stage4" / "trials" / f"{name}-{spec.trial_id}")
    record.create(spec)
    write_json(record.directory / "placement.json", {"modules": []})
    write_json(record.directory / "battery.json", {"finding": None})
    for step in steps:
        measure(record, step)
    return record


def measure(record: Record, step: int) -> None:
    """Append the measurements of one interval and its eval."""
    wall = {"wall_seconds": step / 10}
    record.append(Measurement("train", step, {"step_loss": 1 / step, **wall}))
    values = {name: step / 1000 + place for place, name in enumerate(EVAL_METRICS)}
    record.append(Measurement("eval", step, {**values, **wall}))
    record.write_samples(step, [{"prompt": "图里是什么", "answer": "无关图片"}])


def keep_best(record: Record, step: int) -> None:
    """Write the best adapter as the engine does, with optimizer state."""
    metrics = {"eval_loss": step / 1000}
    with record.saving("best") as directory:
        write_json(directory / "provenance.json", {"step": step, "metrics": metrics})
        (directory / "adapter_model.safetensors").write_bytes(b"weights")
        (directory / "optimizer.safetensors").write_bytes(b"moments")

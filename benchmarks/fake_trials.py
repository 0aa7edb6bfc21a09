"""What a fake trial measures: as many metrics, results by row and answers as a real one on the miniature, drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.io.files import write_json
from trainables.probes.metric import RowResults, scores
from trainables.record import Measurement, Record
from trainables.spec import TrialSpec

FIRST_ROWS = 64  # training rows whose loss is measured
CORE_ROWS = 48  # irrelevant rows of every eval; the others are the reserve
CROPPED_ROWS, CROPS = 12, 2
ADAPTER_BYTES = 8_192  # the driver never reads an adapter, so a small one saves disk
REFUSAL = "无关图片"


@dataclass(frozen=True)
class Rows:
    """The ids of the rows that an eval asks, by what they are for."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    captions: tuple[str, ...]
    text: tuple[str, ...]
    irrelevant: tuple[str, ...]
    reserve: tuple[str, ...]
    crops: tuple[str, ...]

    @classmethod
    def of(cls, spec: TrialSpec) -> Rows:
        """Read the ids from the data of a trial."""
        validation, ood = _rows(spec.validation.path), _rows(spec.ood.path)
        kinds: dict[str, list[str]] = {}
        for row in ood:
            kinds.setdefault(row["kind"], []).append(row["id"])
        names = tuple(row["id"] for row in validation)
        return cls(
            train=tuple(row["id"] for row in _rows(spec.train.path)[:FIRST_ROWS]),
            validation=names,
            captions=tuple(kinds["caption"]),
            text=tuple(kinds["text"]),
            irrelevant=tuple(kinds["irrelevant"][:CORE_ROWS]),
            reserve=tuple(kinds["irrelevant"][CORE_ROWS:]),
            crops=tuple(f"crop/{name}/{number}" for name in names[:CROPPED_ROWS] for number in range(CROPS)),
        )


def drawn_eval(spec: TrialSpec, step: int, rows: Rows) -> Measurement:
    """Return the eval at a step: the fit grows with steps and layers, generality falls with them, both with noise."""
    generator = np.random.default_rng([spec.seed, step, spec.placement.language, spec.placement.vision])
    layers = spec.placement.language + spec.placement.vision / 2
    trained = layers * step / spec.steps
    fit, lost = 1.0 - float(np.exp(-trained / 2)), 0.01 * trained
    right = _hits(generator, rows.irrelevant, 1.0 - lost)
    values: dict[str, float | RowResults] = {
        "exact_match": _hits(generator, rows.validation, fit),
        "irrelevant_pass": right,
        "hallucination": RowResults({row: 1.0 - value for row, value in right.values.items()}),
        "blindness": _hits(generator, (*rows.irrelevant, *rows.captions), 0.01),
        "caption_sanity": _hits(generator, rows.captions, 1.0 - lost),
        "text_retention": _hits(generator, rows.text, 1.0 - lost),
        "crop_consistency": _hits(generator, rows.crops, 0.8),
        "eval_loss": _losses(generator, rows.validation, 1.6 - fit),
        "train_loss": _losses(generator, rows.train, 1.6 - fit),
        "token_accuracy": 0.8 + 0.2 * fit,
        "generalization_gap": -0.1 - 0.05 * float(generator.random()),
    }
    found = scores(values)
    reserve = {}
    if spec.placement.is_baseline:
        passed = _hits(generator, rows.reserve, 1.0)
        reserve = {"irrelevant_pass": passed, "hallucination": RowResults(dict.fromkeys(passed.values, 0.0))}
    return Measurement("eval", step, found.metrics, found.counts, found.rows, reserve=reserve)


def drawn_interval(spec: TrialSpec, step: int, seconds: float) -> Measurement:
    """Return the training metrics of the interval up to a step."""
    parameters = 30_000.0 * spec.placement.language + 20_000.0 * spec.placement.vision
    metrics = {"train_seconds": seconds, "eval_seconds": seconds / 4, "adapter_parameters": parameters,
               "adapter_norm_language": 0.1, "adapter_norm_vision": 0.1, "base_memory_mb": 1.6,
               "peak_memory_mb": 850.0}  # fmt: skip
    if step:
        metrics |= {"step_loss": 1.6 / (1 + step), "gradient_norm": 0.8}
    return Measurement("train", step, metrics)


def samples(rows: Rows, with_reserve: bool) -> list[dict[str, Any]]:
    """Return the prompts and answers of one eval."""
    kinds: Mapping[str, Sequence[str]] = {
        "validation": rows.validation, "caption": rows.captions, "text": rows.text, "irrelevant": rows.irrelevant,
        "crop": rows.crops, "reserve": rows.reserve if with_reserve else (),
    }  # fmt: skip
    return [
        {"row": row, "kind": kind, "group": "scene", "prompt": "<image>Report the state.", "answer": REFUSAL,
         "expected": "lamp yellow; cables no; screw missing."}
        for kind, names in kinds.items()
        for row in names
    ]  # fmt: skip


def save_best(record: Record, spec: TrialSpec, best: Measurement) -> None:
    """Write the best adapter of a trial, with the file that names its eval."""
    with record.saving("best") as directory:
        weights = np.random.default_rng([spec.seed, best.step]).bytes(ADAPTER_BYTES)
        (directory / "adapter_model.safetensors").write_bytes(weights)
        write_json(directory / "adapter_config.json", {"peft_type": "LORA", "r": spec.rank})
        kept = {"step": best.step, "metrics": dict(best.metrics), "spec": spec.model_dump(mode="json")}
        write_json(directory / "provenance.json", kept)


def _hits(generator: np.random.Generator, rows: Sequence[str], rate: float) -> RowResults:
    draws = generator.random(len(rows)) < rate
    return RowResults(dict(zip(rows, map(float, draws), strict=True)))


def _losses(generator: np.random.Generator, rows: Sequence[str], mean: float) -> RowResults:
    draws = mean * (0.5 + generator.random(len(rows)))
    return RowResults(dict(zip(rows, map(float, draws), strict=True)), dict.fromkeys(rows, 10.0))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

"""Writes an experiment as launches leave it: records with results by row and answers, copied to MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sweeps.tracking.tracker import Tracker
from trainables.probes.metric import RowResults, hits, scores
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

REFUSAL, REPORT = "无关图片", "lamp red."
FIT_ROWS, PROBE_ROWS, BUDGET = 60, 48, 60


@dataclass(frozen=True)
class Planned:
    """A trial to write: how often it is right on validation rows and on irrelevant ones, at each step."""

    name: str
    fit: Sequence[float]
    generality: Sequence[float]
    language: int = 2
    vision: int = 0
    seed: int = 0
    arm: str = ""
    rate: float = 2e-4
    steps: Sequence[int] = (30, 60)
    ended: str = "completed"


def baseline(generality: float = 1.0) -> Planned:
    """The trial without an adapter."""
    return Planned("A0", [0.0], [generality], 0, 0, steps=(0,))


def write_data(directory: Path, rows: int = FIT_ROWS, probes: int = PROBE_ROWS) -> dict[str, Source]:
    """Write validation and out-of-distribution rows with pictures, and return the sources of a trial."""
    directory.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(directory / "picture.png")
    turns = [{"role": "user", "content": "<image>Report."}, {"role": "assistant", "content": REPORT}]
    validation = [{"id": f"v{n}", "messages": turns, "images": ["picture.png"]} for n in range(rows)]
    ood = [
        {"id": f"i{n}", "kind": "irrelevant", "group": "door" if n % 2 else "chart", "images": ["picture.png"],
         "prompt": "Report.", "expect": REFUSAL}
        for n in range(probes)
    ]  # fmt: skip
    for name, lines in (("train", validation), ("validation", validation), ("ood", ood)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (directory / "base").mkdir(exist_ok=True)
    files = {name: directory / f"{name}.jsonl" for name in ("train", "validation", "ood")}
    return {"base": Source(path=directory / "base", sha256="ba5e"),
            **{name: Source(path=path, sha256=f"{name}{rows}-{probes}") for name, path in files.items()}}  # fmt: skip


def write_experiment(
    directory: Path, planned: Iterable[Planned], name: str = "stage4", uri: str = "", **data: int
) -> str:
    """Write the records of an experiment below `directory`, copy them to MLflow, and return the store's URI."""
    sources = write_data(directory / f"data-{name}", **data)
    uri = uri or f"sqlite:///{directory / 'mlflow.db'}"
    records = [_record(directory / "runs" / name / "trials", one, sources, data) for one in planned]
    tracker = Tracker(uri, name)
    first = next((one.spec().trial_id for one in records if one.spec().placement.is_baseline), "")
    tracker.open_launch(f"python -m sweeps.{name}", {"footprint.baseline": first})
    for record in records:
        tracker.sync(record)
    return uri


def _record(directory: Path, one: Planned, sources: Mapping[str, Source], data: Mapping[str, int]) -> Record:
    changes: dict[str, Any] = {"arm": one.arm} if one.arm else {}
    spec = TrialSpec(
        name=one.name,
        placement=Placement(language=one.language, vision=one.vision),
        learning_rate=one.rate,
        seed=one.seed,
        steps=BUDGET,
        **sources,
        **changes,
    )
    record = Record(directory / f"{one.name}-{spec.trial_id}")
    record.create(spec)
    for step, fit, generality in zip(one.steps, one.fit, one.generality, strict=True):
        answers = _answers(one, step, fit, generality, data)
        record.append(_measurement(step, answers))
        record.write_samples(step, [_sample(row, right) for row, right in answers.items()])
    record.close(Verdict(kind=one.ended, step=one.steps[-1]))  # type: ignore[arg-type] a kind of verdict
    return record


def _answers(one: Planned, step: int, fit: float, generality: float, data: Mapping[str, int]) -> dict[str, bool]:
    """Return which rows are right: the easy ones first, so that trials are paired on rows, with some noise."""
    draws = np.random.default_rng([one.seed, step, one.language, one.vision, round(one.rate * 1e6)])
    right = {}
    for prefix, count, rate in (
        ("v", data.get("rows", FIT_ROWS), fit),
        ("i", data.get("probes", PROBE_ROWS), generality),
    ):
        order = np.arange(count) + draws.normal(0, count / 20, count)
        chosen = set(np.argsort(order)[: round(rate * count)].tolist())
        right |= {f"{prefix}{number}": number in chosen for number in range(count)}
    return right


def _measurement(step: int, right: Mapping[str, bool]) -> Measurement:
    fit = {row: is_right for row, is_right in right.items() if row.startswith("v")}
    passes = {row: is_right for row, is_right in right.items() if row.startswith("i")}
    losses = RowResults({row: 0.1 if hit else 2.0 for row, hit in fit.items()}, {row: 8.0 for row in fit})
    found = scores(
        {
            "exact_match": hits(fit),
            "irrelevant_pass": hits(passes),
            "hallucination": hits({row: not hit for row, hit in passes.items()}),
            "eval_loss": losses,
            "adapter_parameters": 1000.0,
        }
    )
    return Measurement("eval", step, found.metrics, found.counts, found.rows)


def _sample(row: str, is_right: bool) -> dict[str, Any]:
    is_fit = row.startswith("v")
    expected = REPORT if is_fit else REFUSAL
    wrong = "a door" if is_fit else REPORT
    kind = "validation" if is_fit else "irrelevant"
    return {"row": row, "kind": kind, "prompt": "Report.", "answer": expected if is_right else wrong,
            "expected": expected}  # fmt: skip

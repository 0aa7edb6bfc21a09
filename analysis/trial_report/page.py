"""Writes the results of one trial as a Markdown page with two PDFs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import templates
from analysis.trial_report.loss_curves import eval_plot, training_plot, write_pdf
from analysis.trial_report.results import TrialResults
from trainables.checkpoints.base_lookup import base_name
from trainables.data_files import data_files
from trainables.errors import UserError
from trainables.io.files import read_json
from trainables.metrics import METRICS
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.spec import TrialSpec

SHOWN_SAMPLES = 6
SHA256_DIGITS = 16
SHOWN_AT_EVERY_EVAL = (
    *("train_loss", "eval_loss", "exact_match", "irrelevant_pass", "hallucination"),
    *("text_retention", "command_only_rate", "dangerous_rate"),
)
COSTS = {"train_seconds": "training", "eval_seconds": "evals", "peak_memory_mb": "peak memory"}
NOT_SETTINGS = ("name", "base", "train", "validation", "ood", "earlier")

Row = tuple[str, ...]


@dataclass(frozen=True)
class Tower:
    """One adapted tower: `depth` is its adapted layers in words."""

    name: str
    depth: str
    modules: int
    parameters: int


@dataclass(frozen=True)
class Samples:
    """Sample answers of one eval: the rows shown, and how many there are."""

    step: int
    rows: list[Row]
    count: int


def write_results(results: TrialResults, out: Path, run_id: str | None) -> list[Path]:
    """Write the page and its two PDFs below `out`; returns their paths, the page first.

    Raises:
        UserError: `out` cannot be written, or a file that the page shows is missing.
    """
    name, images = f"{results.experiment}/{results.spec.name}", out / "images"
    page, best_step = out / f"{results.stem}_results.md", results.best.step if results.best else None
    plots = {
        "training": training_plot(name, results.measured),
        "eval": eval_plot(name, results.measured, results.baseline["eval_loss"], best_step),
    }
    pictures = {kind: images / f"{results.stem}_{kind}_loss.pdf" for kind in plots}
    # compute the page first, so that a missing file is reported before anything is written
    text = page_of(results, run_id, {kind: path.relative_to(out) for kind, path in pictures.items()})
    try:
        for kind, plot in plots.items():
            write_pdf(plot, pictures[kind])
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out must be a directory that can be written, but: {error}", "name another one") from error
    return [page, *pictures.values()]


def page_of(results: TrialResults, run_id: str | None, pictures: Mapping[str, Path]) -> str:
    """Return the page as Markdown; `pictures` are the paths of the loss curves, relative to the page."""
    spec, directory = results.spec, results.record.directory
    eval_columns = tuple(name for name in SHOWN_AT_EVERY_EVAL if name in results.evals[-1].metrics)
    return templates.markdown(
        "analysis.trial_report",
        "results.md",
        results=results,
        run_id=run_id,
        pictures=pictures,
        last=results.evals[-1],
        losses=_losses(results),
        method=results.provenance.get("method", QUANTIZATION_TABLE[spec.quantization].method),
        base=results.provenance.get("base_model", base_name(spec.base.path)),
        towers=_towers(results),
        data=_data(results),
        settings=_settings(spec),
        probes=_probes(results),
        labels=_read(directory / "labels.json", {}),
        overridden=_read(directory / "overridden.json", []),
        eval_columns=eval_columns,
        eval_rows=_eval_rows(results, eval_columns),
        samples=_samples(results),
        costs=_costs(results),
    )


def _losses(results: TrialResults) -> list[Row]:
    last, best = results.evals[-1], results.best
    interval = [one.metrics["step_loss"] for one in results.measured if "step_loss" in one.metrics]
    return [
        ("Final training loss (fixed rows, dropout off)", _number(last.metrics.get("train_loss"))),
        ("Final training loss (mean of the last interval, dropout on)", _number(interval[-1] if interval else None)),
        ("Final eval loss", _number(last.metrics["eval_loss"])),
        ("Steps", f"{results.verdict.step}/{results.spec.steps}"),
        ("Best step", str(best.step) if best else "none"),
        ("Eval loss at the best step", _number(best.metrics["eval_loss"] if best else None)),
    ]


def _towers(results: TrialResults) -> list[Tower]:
    placement = results.spec.placement
    placed = read_json(results.record.directory / "placement.json")
    return [
        Tower(
            name,
            placement.describe("language" if name == "language" else "vision"),
            len(one["modules"]),
            one["parameters"],
        )
        for name, one in placed.items()
        if one["modules"]
    ]


def _data(results: TrialResults) -> list[Row]:
    return [
        (
            "out-of-distribution" if name == "ood" else name,
            str(results.rows.get(name, "not recorded")),
            templates.code(source.path),
            templates.code(source.sha256[:SHA256_DIGITS]),
        )
        for name, source in data_files(results.spec).items()
    ]


def _settings(spec: TrialSpec) -> list[Row]:
    values = spec.model_dump(mode="json", exclude=set(NOT_SETTINGS))
    shown = {key: json.dumps(value) if isinstance(value, dict | list) else str(value) for key, value in values.items()}
    return [*shown.items(), ("effective rows per step", str(spec.effective_rows))]


def _probes(results: TrialResults) -> list[Row]:
    last, best = results.evals[-1].metrics, results.best.metrics if results.best else {}
    return [
        (name, known.direction, _number(results.baseline.get(name)), _number(best.get(name)), _number(last[name]))
        for name, known in METRICS.items()
        if name in last
    ]


def _eval_rows(results: TrialResults, names: Row) -> list[Row]:
    best = results.best.step if results.best else None
    base = ("base", *(_number(results.baseline.get(name)) for name in names))
    return [base] + [
        (f"**{one.step}**" if one.step == best else str(one.step), *(_number(one.metrics.get(name)) for name in names))
        for one in results.evals
    ]


def _samples(results: TrialResults) -> Samples:
    """Choose the first sample of each kind, then the second of each, and so on."""
    step = (results.best or results.evals[-1]).step
    try:
        samples = results.record.samples(step)
    except OSError:
        raise UserError(f"{results.record.directory}: samples/step-{step}.jsonl must be there, but it is not") from None
    kinds: dict[str, list[dict[str, Any]]] = {}
    for one in samples:
        kinds.setdefault(one.get("kind", ""), []).append(one)
    turns = [one for rank in range(SHOWN_SAMPLES) for group in kinds.values() for one in group[rank : rank + 1]]
    rows = [
        (one.get("kind", ""), one["prompt"], one["answer"], one.get("expected", "")) for one in turns[:SHOWN_SAMPLES]
    ]
    return Samples(step, rows, len(samples))


def _costs(results: TrialResults) -> list[str]:
    last = next((one.metrics for one in reversed(results.measured) if one.kind == "train"), {})
    return [f"{label} {last[key]:,.0f} {METRICS[key].unit}" for key, label in COSTS.items() if key in last]


def _read(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.is_file() else otherwise


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

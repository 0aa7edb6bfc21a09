"""The page on the results of one trial, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.trial_report.loss_curves import eval_plot, training_plot, write_pdf
from analysis.trial_report.results import TrialResults
from trainables.checkpoints.base_lookup import base_name
from trainables.errors import UserError
from trainables.io.files import read_json
from trainables.metrics import METRICS
from trainables.model.quantization import METHODS
from trainables.spec import TrialSpec

SHOWN_SAMPLES = 6
CELL_LETTERS = 160
COURSE = (
    *("train_loss", "eval_loss", "exact_match", "irrelevant_pass", "hallucination"),
    *("text_retention", "command_only_rate", "dangerous_rate"),
)
COSTS = {"train_seconds": "training", "eval_seconds": "evals", "peak_memory_mb": "peak memory"}
NOT_SETTINGS = ("name", "base", "train", "validation", "ood", "earlier")


def page_of(results: TrialResults, run_id: str | None, pictures: Sequence[Path]) -> str:
    """Return the page as Markdown."""
    parts = [
        f"# {_text(results.spec.name)}: training results",
        _answer(results),
        _losses(results),
        *(f"- [{path.stem.rpartition('_')[0].rpartition('_')[2]} loss]({path.as_posix()})" for path in pictures),
        "",
        "## What was trained",
        _what(results),
        "## Data",
        _data(results),
        "## Settings",
        _table(("setting", "value"), _settings(results.spec)),
        "## Against the base alone",
        _probes(results),
        "## Every eval",
        _course(results),
        "## What it answered",
        _samples(results),
        "## Where it is, and where it comes from",
        _places(results, run_id),
        "## What this does not say",
        _unknowns(results),
    ]
    return "\n\n".join(part for part in parts if part).replace(")\n\n- [", ")\n- [") + "\n"


def _answer(results: TrialResults) -> str:
    last, best, verdict = results.evals[-1], results.best, results.verdict
    reason = f": {verdict.reason}" if verdict.reason else ""
    ended = f"It ended at step {verdict.step} of {results.spec.steps}, **{verdict}**{reason}."
    if best is None:
        return f"{ended} No adapter was kept: no eval stayed near enough to the base (the constraint of the study)."
    moved = f"{results.baseline['eval_loss']:.4f} to {best.metrics['eval_loss']:.4f} nats per token"
    kept = "the last eval" if best.step == last.step else f"an eval before the last one, at {last.step}"
    return f"{ended} The adapter kept is that of step {best.step}, {kept}: eval loss from {moved}."


def _losses(results: TrialResults) -> str:
    last, best = results.evals[-1], results.best
    interval = [one.metrics["step_loss"] for one in results.measured if "step_loss" in one.metrics]
    rows = [
        ("Final training loss (fixed rows, dropout off)", _number(last.metrics.get("train_loss"))),
        ("Final training loss (mean of the last interval, dropout on)", _number(interval[-1] if interval else None)),
        ("Final eval loss", _number(last.metrics["eval_loss"])),
        ("Steps", f"{results.verdict.step}/{results.spec.steps}"),
        ("Best step", str(best.step) if best else "none"),
        ("Eval loss at the best step", _number(best.metrics["eval_loss"] if best else None)),
    ]
    return _table(("losses in nats per token", ""), rows)


def _what(results: TrialResults) -> str:
    spec = results.spec
    placed = read_json(results.record.directory / "placement.json")
    towers = [
        f"{tower}: {len(one['modules'])} modules, {one['parameters']:,} trained parameters"
        for tower, one in placed.items()
        if one["modules"]
    ]
    continued = f"\n- continues `{spec.init_from.path}` (sha256 `{spec.init_from.sha256}`)" if spec.init_from else ""
    method = results.provenance.get("method", METHODS[spec.quantization])
    layers = {
        "language": f"{spec.placement.language} language layers",
        "vision": f"{spec.placement.vision} vision blocks",
    }
    depths = " and ".join(f"the last {layers[tower]}" for tower, one in placed.items() if one["modules"])
    return (
        f"- {method}, base `{results.provenance.get('base_model', base_name(spec.base.path))}` at `{spec.base.path}`, "
        f"sha256 `{spec.base.sha256}`, quantization {spec.quantization}\n"
        f"- LoRA on {depths}\n- {'; '.join(towers)}{continued}"
    )


def _data(results: TrialResults) -> str:
    sources = {"train": results.spec.train, "validation": results.spec.validation, "ood": results.spec.ood}
    rows = [
        (
            "out-of-distribution" if name == "ood" else name,
            str(results.rows.get(name, "not recorded")),
            f"`{source.path}`",
            f"`{source.sha256[:16]}`",
        )
        for name, source in sources.items()
    ]
    return _table(("rows", "count", "file", "sha256"), rows)


def _settings(spec: TrialSpec) -> list[tuple[str, str]]:
    values = spec.model_dump(mode="json", exclude=set(NOT_SETTINGS))
    shown = {key: json.dumps(value) if isinstance(value, dict | list) else str(value) for key, value in values.items()}
    return [*shown.items(), ("effective rows per step", str(spec.effective_rows))]


def _probes(results: TrialResults) -> str:
    last, best = results.evals[-1].metrics, results.best.metrics if results.best else {}
    names = [name for name in METRICS if name in last]
    rows = [
        (name, METRICS[name].direction, _number(results.baseline.get(name)), _number(best.get(name)),
         _number(last[name]))
        for name in names
    ]  # fmt: skip
    table = _table(("metric", "better", "base alone", "best step", "last step"), rows)
    return f"{table}\n\n{_labels(results)}"


def _labels(results: TrialResults) -> str:
    path, lines = results.record.directory / "labels.json", []
    labels = read_json(path) if path.is_file() else {}
    for name in ("minimum", "optimal"):
        if name in labels:
            rules = "; ".join(f"{'✓' if one['met'] else '✗'} {one['rule']}" for one in labels[name]["criteria"])
            lines.append(f"- {name} criteria {'met' if labels[name]['met'] else 'not met'}: {rules}")
    lines += [
        f"- degraded, {one['check']} at step {one['step']}: {one['evidence']}" for one in labels.get("degraded", ())
    ]
    forced = results.record.directory / "overridden.json"
    if forced.is_file():
        lines += [f"- started with --force although refused: {one['check']}" for one in read_json(forced)]
    return "\n".join(lines)


def _course(results: TrialResults) -> str:
    names = [name for name in COURSE if name in results.evals[-1].metrics]
    rows = [("base", *(_number(results.baseline.get(name)) for name in names))]
    best = results.best.step if results.best else None
    rows += [
        (f"**{one.step}**" if one.step == best else str(one.step), *(_number(one.metrics.get(n)) for n in names))
        for one in results.evals
    ]
    return _table(("step", *names), rows)


def _samples(results: TrialResults) -> str:
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
    shown = f"The first of each kind at step {step}, {len(rows)} of {len(samples)}, not chosen by their looks."
    return f"{shown}\n\n{_table(('kind', 'prompt', 'answer', 'expected'), rows)}"


def _places(results: TrialResults, run_id: str | None) -> str:
    spec, best = results.spec, results.record.directory / "best"
    checks = "`python -m trainables.verify` checks it, `python -m trainables.validate` asks it"
    adapter = f"`{best}`; {checks}" if results.best else "none was kept"
    run = f"run `{run_id}` of experiment `{results.experiment}`" if run_id else "no run was found in this store"
    last = next((one.metrics for one in reversed(results.measured) if one.kind == "train"), {})
    cost = [f"{label} {last[key]:,.0f} {METRICS[key].unit}" for key, label in COSTS.items() if key in last]
    lines = [
        f"- adapter: {adapter}",
        f"- record: `{results.record.directory}`, trial id `{spec.trial_id}`",
        f"- MLflow: {run}",
        f"- cost: {', '.join(cost) or 'not recorded'}",
        f"- seeds: {spec.seed} (adapter, dropout), {spec.data_seed} (order of the data)",
    ]
    return "\n".join([*lines, *_made_with(results)])


def _made_with(results: TrialResults) -> list[str]:
    kept, untold = results.provenance or results.beside, "code, versions and hardware are kept beside an adapter"
    if not kept:
        return [f"- {untold}: not recorded, for no trial of this experiment kept one"]
    source = kept.get("source", {})
    versions = ", ".join(f"{name} {number}" for name, number in kept.get("versions", {}).items())
    dirty = " with changes that were not committed" if source.get("dirty") else ""
    other = (
        [] if results.provenance else [f"- {untold}; those of `{kept.get('trial', 'another trial')}`, which kept one:"]
    )
    return [
        *other,
        f"- code: commit {source.get('commit') or 'unknown'}{dirty}",
        f"- made with {versions or 'unknown'}",
        f"- on {kept.get('hardware', 'unknown')}, written {kept.get('written_at', 'unknown')}",
    ]


def _unknowns(results: TrialResults) -> str:
    notes = ["One trial, one seed: the spread over seeds is not in these numbers."]
    if results.best is not None:
        notes.append("The best step was chosen on the validation rows it is reported on, which flatters it a little; "
                     "`python -m trainables.validate` on rows held out from both says more.")  # fmt: skip
    notes.append("The probes see the study's own rows; they say nothing about inputs unlike those.")
    if results.verdict.kind not in ("completed", "pruned"):
        notes.insert(0, f"The trial ended {results.verdict}: its numbers are not to be judged.")
    return "\n".join(f"- {note}" for note in notes)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows])


def _text(cell: str) -> str:
    """Return a cell that cannot break the table it stands in, nor become markup of the page."""
    flat = " ".join(cell.split())
    cut = flat if len(flat) <= CELL_LETTERS else flat[: CELL_LETTERS - 1] + "…"
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def write_results(results: TrialResults, out: Path, run_id: str | None) -> list[Path]:
    """Write the page and its two PDFs below `out`; returns their paths, the page first.

    Raises:
        UserError: `out` cannot be written.
    """

    name, images = f"{results.experiment}/{results.spec.name}", out / "images"
    page, best_step = out / f"{results.stem}_results.md", results.best.step if results.best else None
    plots = {
        images / f"{results.stem}_training_loss.pdf": training_plot(name, results.measured),
        images / f"{results.stem}_eval_loss.pdf": eval_plot(
            name, results.measured, results.baseline["eval_loss"], best_step
        ),
    }
    # what is missing is told before a file is written
    text = page_of(results, run_id, [path.relative_to(out) for path in plots])
    try:
        for path, plot in plots.items():
            write_pdf(plot, path)
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out must be a directory that can be written, but: {error}", "name another one") from error
    return [page, *plots]

"""Writes `provenance.json` and a model card next to an adapter's weights.

`provenance.json` holds `phase`, `base_model`, `method`, `final_metrics` and `checkpoint`, which downstream tools read,
and everything that determined the result: the spec with its seeds, digests and row counts of the data, the commit of
the code, versions, hardware, cost up to this step, ancestors, and the MLflow run.
"""

from __future__ import annotations

import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trainables.checkpoints.base_lookup import base_name
from trainables.checkpoints.lineage import experiment_of
from trainables.data.joined_files import locate_all
from trainables.data_files import data_files
from trainables.errors import UserError
from trainables.io.files import read_json, write_json, write_text
from trainables.io.jsonl import objects
from trainables.model.families import TOWERS, TowerName
from trainables.model.placement import ResolvedPlacement
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.probes.probe import Baseline
from trainables.record import Measurement, Record
from trainables.spec import TrialSpec

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "ray")


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MB (10^6 bytes): allocated on a CUDA device, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e6


def describe_best(
    directory: Path,
    spec: TrialSpec,
    placement: ResolvedPlacement,
    best: Measurement,
    baseline: Baseline,
    device: torch.device,
    known: Mapping[str, Any],
) -> None:
    """Write `provenance.json` and `README.md` next to the best adapter; `known` holds its labels and lineage.

    `directory` is in the trial's record, from which the cost of the training is read.
    """
    record = Record.at(directory.parent)
    kept = {**_requested(spec, record), **_measured(best, record, placement, spec), **_environment(device), **known}
    write_json(directory / "provenance.json", kept)
    write_text(directory / "README.md", _model_card(spec, placement, best, baseline, _selection_rule(record)))


def write_placement(record: Record, placement: ResolvedPlacement, spec: TrialSpec) -> None:
    """Write `placement.json`: exact module names and trained parameters per tower."""
    resolved = {
        tower: {
            "modules": [linear.name for linear in placement.linears[tower]],
            "parameters": placement.parameters(tower, spec.rank),
        }
        for tower in TOWERS
    }
    write_json(record.directory / "placement.json", resolved)


def _requested(spec: TrialSpec, record: Record) -> dict[str, Any]:
    experiment = experiment_of(record)
    return {
        "phase": f"{experiment or record.name} - Training",
        "base_model": base_name(spec.base.path),
        "method": QUANTIZATION_TABLE[spec.quantization].method,
        "experiment": experiment,
        "trial": spec.name,
        "trial_id": spec.trial_id,
        "mlflow": {"experiment": experiment, "filter": f"tags.`trial.id` = '{spec.trial_id}'"},
        "spec": spec.model_dump(mode="json"),
        "seeds": {"adapter_and_dropout": spec.seed, "data_order": spec.data_seed},
        "data": {
            name: {"path": str(source.path), "sha256": source.sha256, "rows": _row_count(source.path)}
            for name, source in data_files(spec).items()
        },
    }


def _measured(best: Measurement, record: Record, placement: ResolvedPlacement, spec: TrialSpec) -> dict[str, Any]:
    trained = [one.metrics for one in record.measurements() if one.kind == "train" and one.step <= best.step]
    cost = trained[-1] if trained else {}
    return {
        "step": best.step,
        "metrics": dict(best.metrics),
        "final_metrics": {
            "train_loss": best.metrics["train_loss"],
            "eval_loss": best.metrics["eval_loss"],
            "steps": best.step,
        },
        "checkpoint": str(record.directory / "best"),
        "parameters": {tower: placement.parameters(tower, spec.rank) for tower in TOWERS},
        "cost": {key: cost[key] for key in ("train_seconds", "eval_seconds", "peak_memory_mb") if key in cost},
    }


def _environment(device: torch.device) -> dict[str, Any]:
    return {
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in LIBRARIES}},
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "platform": platform.platform(),
        "source": _source_revision(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache  # a study's files are read by every trial of a process
def _row_count(path: Path) -> int | None:
    try:
        return sum(1 for one in locate_all(path) for _ in objects(one.file))
    except (OSError, UserError):  # training has already read the rows; a file deleted since is not a failure
        return None


def _processor() -> str:
    models = []
    with suppress(OSError):  # only on Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]} ({len(models)} cores)" if models else platform.processor() or "cpu"


def _selection_rule(record: Record) -> str:
    """Describe how the best step was chosen: by the constraint of the record's experiment."""
    study = record.home.resolve().parent.parent / "study.json"
    constraint = read_json(study).get("constraint", {}) if experiment_of(record) and study.is_file() else {}
    limits = [
        f"{found[1].replace('_', ' ')} at most {value:g} {'below' if found[2] == 'drop' else 'above'} the base's"
        for key, value in constraint.items()
        if (found := re.fullmatch(r"max_(\w+)_(drop|rise)", key))
    ]
    return f"the lowest eval loss with {' and '.join(limits)}" if limits else "the lowest admissible eval loss"


def _model_card(
    spec: TrialSpec, placement: ResolvedPlacement, best: Measurement, baseline: Baseline, choice: str
) -> str:
    adapted: list[TowerName] = [tower for tower in TOWERS if placement.linears[tower]]
    counts = "; ".join(
        f"{tower} {len(placement.linears[tower])} modules, {placement.parameters(tower, spec.rank):,} parameters"
        for tower in adapted
    )
    rows = "\n".join(
        f"| {name} | {baseline.metrics[name]:.4f} | {value:.4f} |" for name, value in sorted(best.metrics.items())
    )
    return (
        f"---\nlibrary_name: peft\nbase_model: {base_name(spec.base.path)}\ntags: [lora, footprint]\n---\n"
        f"# {spec.name}: LoRA on {' and '.join(map(spec.placement.describe, adapted))}\n\n"
        f"Adapted at rank {spec.rank}: {counts}.\n\nQuantization {spec.quantization}, alpha {spec.alpha:g}, "
        f"dropout {spec.dropout:g}, seed {spec.seed}; the eval at step {best.step} of {spec.steps}, {choice}.\n\n"
        f"| metric | base alone | with this adapter |\n| --- | --- | --- |\n{rows}\n\n"
        "Measured on the study's own validation and out-of-distribution rows, one seed; other inputs were not "
        "measured. `provenance.json` holds the settings, versions and data digests.\n"
    )


@cache  # the code was loaded when the process started
def _source_revision() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(_git(root, "status", "--porcelain"))}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)  # noqa: S603,S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

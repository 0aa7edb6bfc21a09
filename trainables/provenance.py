"""Where an adapter comes from: `provenance.json` and an honest model card beside its weights."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trainables.placement import ResolvedPlacement
from trainables.probes.probe import Baseline
from trainables.record import Measurement, Record, write_json, write_text
from trainables.spec import TrialSpec
from trainables.towers import TOWERS

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
    labels: Mapping[str, Any],
) -> None:
    """Write `provenance.json` and `README.md` beside the best adapter."""
    write_json(directory / "provenance.json", {**_provenance(spec, best, device), "labels": labels})
    write_text(directory / "README.md", _model_card(spec, placement, best, baseline))


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


def _provenance(spec: TrialSpec, best: Measurement, device: torch.device) -> dict[str, Any]:
    return {
        "trial": spec.name,
        "trial_id": spec.trial_id,
        "step": best.step,
        "metrics": dict(best.metrics),
        "spec": spec.model_dump(mode="json"),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in LIBRARIES}},
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "source": _source_revision(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _model_card(spec: TrialSpec, placement: ResolvedPlacement, best: Measurement, baseline: Baseline) -> str:
    rows = "\n".join(
        f"| {name} | {baseline.metrics[name]:.4f} | {value:.4f} |" for name, value in sorted(best.metrics.items())
    )
    return (
        f"---\nlibrary_name: peft\nbase_model: {spec.base.path.name}\ntags: [lora, footprint]\n---\n"
        f"# {spec.name}: LoRA on the last {spec.placement.language} language layers "
        f"and the last {spec.placement.vision} vision blocks\n\n"
        f"{placement.describe(spec.rank)}.\n\nQuantization {spec.quantization}, alpha {spec.alpha:g}, "
        f"dropout {spec.dropout:g}, seed {spec.seed}; the eval at step {best.step} of {spec.steps}, the lowest "
        "eval loss whose irrelevant-image pass and hallucination stayed near the baseline's.\n\n"
        f"| metric | base alone | with this adapter |\n| --- | --- | --- |\n{rows}\n\n"
        "Measured on the study's own validation and out-of-distribution rows, one seed. It says nothing about "
        "inputs unlike those. `provenance.json` holds the settings, versions and data digests.\n"
    )


@cache  # what runs is what was loaded when the process began
def _source_revision() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(_git(root, "status", "--porcelain"))}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)  # noqa: S603,S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

"""Writes adapters to disk as PEFT and a trial do, with all tensors zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from trainables.io.files import write_json
from trainables.model.families import family_of
from trainables.model.placement import resolve
from trainables.record import Record
from trainables.spec import TrialSpec


def saved(directory: Path, spec: TrialSpec) -> Path:
    """Write the adapter of a spec as PEFT would, every tensor zero."""
    family, config = family_of(spec.base.path)
    linears = [one for group in resolve(spec.placement, family.towers(config)).linears.values() for one in group]
    directory.mkdir(parents=True, exist_ok=True)
    config = {"r": spec.rank, "lora_alpha": spec.alpha, "peft_type": "LORA"}
    config["target_modules"] = [one.name for one in linears]
    write_json(directory / "adapter_config.json", config)
    tensors = {f"base_model.model.{one.name}.lora_A.weight": np.zeros((spec.rank, one.inputs), np.float32)
               for one in linears}  # fmt: skip
    tensors |= {f"base_model.model.{one.name}.lora_B.weight": np.zeros((one.outputs, spec.rank), np.float32)
                for one in linears}  # fmt: skip
    save_file(tensors, str(directory / "adapter_model.safetensors"))
    return directory


def left_by(record: Record, spec: TrialSpec) -> Path:
    """Write the last checkpoint of a trial, with its manifest."""
    with record.saving(f"checkpoints/step-{spec.steps}") as directory:
        saved(directory, spec)
    return record.checkpoint(spec.steps)

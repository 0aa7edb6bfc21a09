"""Writes the PEFT directory: weights, configuration and provenance, without a path of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter_config import read_adapter_config
from trainables.checkpoints.lineage import PROVENANCE
from trainables.checkpoints.tensor_file import read_tensors
from trainables.data_files import data_files
from trainables.errors import UserError
from trainables.io.checksums import sha256_of_files
from trainables.io.files import read_json, write_json
from trainables.io.manifest import MANIFEST
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainables.record import Measurement, Record
from trainables.shipping.base_terms import base_terms
from trainables.shipping.machine_paths import machine_paths_in
from trainables.spec import TrialSpec


def check_scale(scale: float) -> None:
    """Refuse a strength at which the adapter would not lie between the base and what was trained.

    Raises:
        UserError: it is below 0 or above 1.
    """
    if not 0.0 <= scale <= 1.0:
        raise UserError(f"--scale must be from 0 (the base) to 1 (the adapter as trained), but got {scale:g}",
                        "for example --scale 0.5")  # fmt: skip


def write_adapter(source: Path, spec: TrialSpec, scale: float, out: Path) -> None:
    """Copy an adapter's weights unchanged, and its configuration with the base's public name and scaled `lora_alpha`.

    The strength of LoRA is alpha / rank, so that a scaled alpha scales the whole update (Hu et al. 2021, section 4.1).

    Raises:
        UserError: the weights or the configuration are not those of PEFT, or `scale` is not from 0 to 1.
    """
    check_scale(scale)
    read_tensors(source / ADAPTER_WEIGHTS)
    terms, config = base_terms(spec.base.path), read_adapter_config(source)
    named = {"base_model_name_or_path": terms.name, "revision": terms.revision}
    write_json(out / ADAPTER_CONFIG, {**config, **named, "lora_alpha": config["lora_alpha"] * scale})
    shutil.copyfile(source / ADAPTER_WEIGHTS, out / ADAPTER_WEIGHTS)


def write_provenance(record: Record, spec: TrialSpec, measured: Measurement, scale: float, out: Path) -> None:
    """Write `provenance.json` as the record has it, with names in place of paths.

    `candidate` is the strength that was measured, `scale` the further one that the directory was asked for.
    """
    kept = record.directory / "best" / PROVENANCE
    known: dict[str, Any] = read_json(kept) if kept.is_file() else {}
    if known.get("step") != measured.step:  # of another eval of the same trial
        known = {
            key: value for key, value in known.items() if key not in ("metrics", "final_metrics", "cost", "labels")
        }
    values = {
        "experiment": record.home.parent.parent.name,
        **known,
        "spec": spec.model_dump(mode="json"),
        "step": measured.step,
        "metrics": dict(measured.metrics),
        "scale": scale,
        "candidate": measured.scale,
    }
    name = base_terms(spec.base.path).name
    write_json(out / PROVENANCE, without_paths(values, {str(spec.base.path): name}))


def without_paths(value: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON value in which each absolute path is its last part, or the name that `names` has for it."""
    if isinstance(value, Mapping):
        return {key: without_paths(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one, names) for one in value]
    if isinstance(value, str) and value.startswith("/"):
        return names.get(value) or Path(value).name
    return value


def close_package(out: Path, spec: TrialSpec, record: Record) -> None:
    """Check that no file of a directory names a path of this machine, and write `manifest.json`.

    Raises:
        UserError: a file does; names file and path.
    """
    sources = (spec.base, *data_files(spec).values(), *spec.earlier)
    known = (*(one.path for one in sources), record.home.resolve(), out.resolve(), Path.home(), Path.cwd())
    found = machine_paths_in(out, known)
    if found:
        file, path = next(iter(found.items()))
        raise UserError(f"a shipped directory must name no path of this machine, but {file} names {path}",
                        "this is a bug in Footprint: open an issue with the command and this line")  # fmt: skip
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    names = [path.relative_to(out).as_posix() for path in files]
    write_json(out / MANIFEST, {"sha256": dict(zip(names, sha256_of_files(files), strict=True))})

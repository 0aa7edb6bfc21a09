"""Reads a saved LoRA directory: configuration and tensor names, no tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.io.files import RecordDamaged, read_json
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPTIMIZER_WEIGHTS, PREFIX
from trainables.spec import Source

# what PEFT can save that this project does not train on: each would be lost or change what the tensors mean
PLAIN = {"peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None), "modules_to_save": (None, []),
         "rank_pattern": ({}, None), "alpha_pattern": ({}, None), "fan_in_fan_out": (False, None)}  # fmt: skip


Shape = tuple[int, ...]


@dataclass(frozen=True)
class SavedAdapter:
    """What a LoRA directory of PEFT holds; `modules` maps a linear's whole name to its (rank, inputs, outputs).

    `base_sha256` is None where no record tells it, `base_name` is what PEFT wrote as `base_model_name_or_path`.
    """

    directory: Path
    rank: int
    alpha: float
    rslora: bool
    modules: Mapping[str, Shape]
    base_name: str | None
    base_sha256: str | None


def adapter_source(directory: Path, optimizer: str = "fresh") -> Source:
    """Return an adapter as what a trial continues: its path, and the hash of what decides the result.

    That is `adapter_model.safetensors`, as `sha256sum` prints it; where the optimizer is resumed, its state too.

    Raises:
        UserError: the directory does not exist or lacks one of its files.
    """
    directory = directory.expanduser().resolve()
    if not directory.is_dir():
        raise UserError(f"an adapter to continue must be a directory, but {directory} is not", "check the path")
    if not all((directory / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)):
        raise UserError(
            f"{directory}: an adapter directory must hold {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}",
            "pass a trial's `best/`, one of its `checkpoints/step-N/`, or any LoRA directory that PEFT saved",
        )
    digest = _sha256(directory / ADAPTER_WEIGHTS)
    if optimizer == "resumed":
        state = directory / OPTIMIZER_WEIGHTS
        if not state.is_file():
            raise UserError(
                f"{directory}: a resumed optimizer needs {OPTIMIZER_WEIGHTS}, but there is none",
                "continue from a checkpoint or `best` of a trial, or with optimizer `fresh`",
            )
        digest = sha256(f"{digest} {_sha256(state)}".encode()).hexdigest()
    return Source(path=directory, sha256=digest)


def read_adapter(directory: Path) -> SavedAdapter:
    """Read configuration and tensor names; no tensor is loaded.

    Raises:
        UserError: a file is missing or broken, or holds an adapter of another kind than plain LoRA.
    """
    path = adapter_source(directory).path
    config = _config(path / ADAPTER_CONFIG)
    return SavedAdapter(
        directory=path,
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora", False)),
        modules=_modules(path / ADAPTER_WEIGHTS),
        base_name=config.get("base_model_name_or_path") or None,
        base_sha256=_recorded_base(path),
    )


# -------------------------------------------------------------------- what the files hold
def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = read_json(path)
    except RecordDamaged as error:
        raise UserError(error.message, "save the adapter again") from None
    missing = [key for key in ("r", "lora_alpha") if not isinstance(config.get(key), int | float)]
    if missing:
        raise UserError(f"{path}: `{missing[0]}` must be a number, but it is {config.get(missing[0])!r}")
    for key, plain in PLAIN.items():
        if key in config and config[key] not in plain:
            raise UserError(
                f"{path}: only plain LoRA can be continued, `{key}` {plain[0]!r}, but it is {config[key]!r}",
                "what is continued must mean the same here as where it was trained",
            )
    return config


def _modules(path: Path) -> dict[str, Shape]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            shapes: dict[str, Shape] = {
                key: tuple(file.get_slice(key).get_shape())
                for key in file.keys()  # noqa: SIM118 a file is no dict
            }
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: the adapter's weights must be safetensors, but {error}", "save it again") from None
    modules: dict[str, Shape] = {}
    for name in sorted({_module_of(key, path) for key in shapes}):
        pair = [shapes.get(f"{PREFIX}{name}.{factor}.weight") for factor in ("lora_A", "lora_B")]
        if pair[0] is None or pair[1] is None:
            raise UserError(f"{path}: every module must have lora_A and lora_B, but {name} has one of them only")
        modules[name] = (pair[0][0], pair[0][1], pair[1][0])
    if not modules:
        raise UserError(f"{path}: an adapter must hold LoRA tensors, but it holds none")
    return modules


def _module_of(key: str, path: Path) -> str:
    name = key.removeprefix(PREFIX)
    for factor in (".lora_A.weight", ".lora_B.weight"):
        if key.startswith(PREFIX) and name.endswith(factor):
            return name.removesuffix(factor)
    raise UserError(f"{path}: only LoRA tensors named {PREFIX}<module>.lora_A.weight can be continued, but got {key}")


def _recorded_base(directory: Path) -> str | None:
    """Read the base's hash from `best/provenance.json`, or from the record a checkpoint lies in."""
    for path, keys in ((directory / "provenance.json", ("spec", "base")),
                       (directory.parent.parent / "spec.json", ("base",))):  # fmt: skip
        values: Any = read_json(path) if path.is_file() else None
        for key in keys:
            values = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(values.get("sha256"), str):
            return values["sha256"]
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

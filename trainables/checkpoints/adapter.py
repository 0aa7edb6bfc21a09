"""Reads configuration, tensor names and shapes of a saved LoRA directory, without loading tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter_config import read_object
from trainables.checkpoints.lineage import recorded_base
from trainables.errors import UserError
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPTIMIZER_WEIGHTS, PREFIX
from trainables.spec import Source

# options of PEFT that change what the tensors mean, with their values in plain LoRA; other values are refused
PLAIN = {"peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None), "modules_to_save": (None, []),
         "rank_pattern": ({}, None), "alpha_pattern": ({}, None), "fan_in_fan_out": (False, None)}  # fmt: skip


Shape = tuple[int, ...]


@dataclass(frozen=True)
class SavedAdapter:
    """Contents of a PEFT LoRA directory; `modules` maps full module names to (rank, inputs, outputs).

    `base_sha256` is None if no record holds it; `base_name` is PEFT's `base_model_name_or_path`.
    """

    directory: Path
    rank: int
    alpha: float
    rslora: bool
    modules: Mapping[str, Shape]
    base_name: str | None
    base_sha256: str | None


def adapter_source(directory: Path, optimizer: str = "fresh") -> Source:
    """Return the path and the hash of an adapter to continue.

    The hash is that of `adapter_model.safetensors`; if the optimizer is resumed, its state is hashed too.

    Raises:
        UserError: the directory or one of its files does not exist.
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
                "continue from a checkpoint or `best` of a trial, or set optimizer `fresh`",
            )
        digest = sha256(f"{digest} {_sha256(state)}".encode()).hexdigest()
    return Source(path=directory, sha256=digest)


def read_adapter(directory: Path) -> SavedAdapter:
    """Read configuration, tensor names and shapes; no tensor is loaded.

    Raises:
        UserError: a file is missing or broken, or the adapter is not plain LoRA.
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
        base_sha256=recorded_base(path),
    )


def _config(path: Path) -> Mapping[str, Any]:
    config = read_object(path, "save the adapter again")
    missing = [key for key in ("r", "lora_alpha") if not isinstance(config.get(key), int | float)]
    if missing:
        raise UserError(f"{path}: `{missing[0]}` must be a number, but it is {config.get(missing[0])!r}")
    for key, plain in PLAIN.items():
        if key in config and config[key] not in plain:
            raise UserError(
                f"{path}: only plain LoRA can be continued, with `{key}` {plain[0]!r}, but it is {config[key]!r}",
                "with this value the adapter's tensors have a meaning that is not supported",
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
            raise UserError(f"{path}: every module must have lora_A and lora_B, but {name} has only one of them")
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

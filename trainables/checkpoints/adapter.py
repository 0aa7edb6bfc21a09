"""Reads configuration, tensor names and shapes of a saved LoRA directory, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from trainables.attempt import superseded_by
from trainables.checkpoints.adapter_config import SAVE_AGAIN_HINT, read_adapter_config
from trainables.checkpoints.directory import check_is_adapter
from trainables.checkpoints.lineage import recorded_base
from trainables.checkpoints.names import explained
from trainables.checkpoints.plain_lora import LORA, kind_of, not_plain
from trainables.checkpoints.targets import Targets
from trainables.checkpoints.tensor_file import Shape, Tensor, is_finite, read_tensors
from trainables.errors import UserError, named, quoted
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPTIMIZER_WEIGHTS, PREFIX, saved_name
from trainables.spec import Source
from trainables.typed import typed

# tensors of the base that trainers save with an adapter: PEFT's `save_embedding_layers`
SAVED_BASE_TENSORS = ("embed_tokens.weight", "lm_head.weight")
KEPT_FILES = 8  # of which the tensors are remembered: every trial of a study asks for the same adapter


@dataclass(frozen=True)
class SavedAdapter:
    """Contents of a PEFT LoRA directory; `modules` maps full module names to (rank, inputs, outputs).

    `base_sha256` is None if no record holds it; `base_name` is PEFT's `base_model_name_or_path`. `targets` is None for
    an adapter that is not yet written. `base_tensors` are tensors of the base in the adapter's file, by their names in
    the base.
    """

    directory: Path
    rank: int
    alpha: float
    rslora: bool
    modules: Mapping[str, Shape]
    base_name: str | None
    base_sha256: str | None
    targets: Targets | None = None
    base_tensors: Mapping[str, Tensor] = field(default_factory=dict)


def adapter_source(directory: Path, optimizer: str = "fresh") -> Source:
    """Return the path and the hash of an adapter to continue.

    The hash is that of `adapter_model.safetensors`; if the optimizer is resumed, its state is hashed too.

    Raises:
        UserError: the directory or one of its files does not exist.
    """
    directory = directory.expanduser().resolve()
    if not directory.is_dir():
        raise UserError(f"an adapter to continue must be a directory, but {directory} is not", "check the path")
    check_is_adapter(directory)
    if newer := superseded_by(directory):
        raise UserError(
            f"{directory}: an adapter must be of its trial's newest attempt, but another process took that trial over",
            f"pass {newer}; or copy the directory elsewhere to use it as it is",
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
    """Read configuration, tensor names and shapes, and check that it is whole, finite, plain LoRA.

    Raises:
        UserError: a file is missing or broken, or the adapter is not plain LoRA; names file, key or tensor.
    """
    path = adapter_source(directory).path
    config, tensors = _plain_config(path), _tensors(path / ADAPTER_WEIGHTS)
    rank = int(config["r"])
    return SavedAdapter(
        directory=path,
        rank=rank,
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora", False)),
        modules=_modules(path / ADAPTER_WEIGHTS, tensors, rank),
        base_name=config.get("base_model_name_or_path") or None,
        base_sha256=recorded_base(path),
        targets=Targets.of(config),
        base_tensors={name: one for key, one in tensors.items() if (name := base_tensor(key))},
    )


def base_tensor(key: str) -> str | None:
    """Return the name in the base of a tensor that was saved with an adapter but is the base's, else None."""
    name = key.removeprefix(PREFIX)
    is_base = (
        key.startswith(PREFIX)
        and ".lora_" not in name
        and f".{name}".endswith(tuple(f".{e}" for e in SAVED_BASE_TENSORS))
    )
    return name if is_base else None


def _plain_config(directory: Path) -> Mapping[str, Any]:
    path = directory / ADAPTER_CONFIG
    config = read_adapter_config(directory)
    if kind_of(config) != LORA:
        raise UserError(
            f"{path}: only LoRA can be continued, with `peft_type` 'LORA', but it is {quoted(config.get('peft_type'))}",
            f"an adapter of another kind can be verified: {typed('verify', str(directory))}",
        )
    found = not_plain(config)
    if found:
        raise UserError(f"{path}: only plain LoRA can be continued, but {'; '.join(map(str, found))}", found[0].hint)
    for key in ("r", "lora_alpha", "target_modules"):
        if not config.get(key):
            raise UserError(f"{path}: `{key}` must be given, but it is {quoted(config.get(key))}", SAVE_AGAIN_HINT)
    return config


def _tensors(path: Path) -> Mapping[str, Tensor]:
    kept = path.stat()
    return _tensors_once(path, (kept.st_size, kept.st_mtime_ns, kept.st_ino))


@lru_cache(KEPT_FILES)
def _tensors_once(path: Path, _file: tuple[int, ...]) -> Mapping[str, Tensor]:
    """Read types and shapes of all tensors, and all values once, to find those that are not finite.

    Raises:
        UserError: a tensor is of another type than floating point, or holds NaN or infinity.
    """
    stored = read_tensors(path)
    tensors = {saved_name(key): tensor for key, tensor in stored.items()}
    if len(tensors) < len(stored):
        raise UserError(f"{path}: every tensor must be there once, but some are there twice", SAVE_AGAIN_HINT)
    for key, tensor in tensors.items():
        if not tensor.is_float:
            raise UserError(
                f"{path}: every tensor must be of a floating type of 16 to 64 bits, but {named(key)} is {tensor.dtype}",
                "save the adapter's own weights, not quantized ones",
            )
        if not is_finite(path, tensor):
            raise UserError(
                f"{path}: every value must be finite, but {named(key)} holds NaN or infinity",
                "use an earlier checkpoint: training had diverged",
            )
    return tensors


def _modules(path: Path, tensors: Mapping[str, Tensor], rank: int) -> dict[str, Shape]:
    names = sorted({_module_of(key, path) for key in tensors if base_tensor(key) is None})
    if not names:
        raise UserError(f"{path}: an adapter must hold LoRA tensors, but it holds none", SAVE_AGAIN_HINT)
    return {name: _shape(name, tensors, path, rank) for name in names}


def _shape(name: str, tensors: Mapping[str, Tensor], path: Path, rank: int) -> Shape:
    a, b = (tensors.get(f"{PREFIX}{name}.{factor}.weight") for factor in ("lora_A", "lora_B"))
    if a is None or b is None:
        raise UserError(
            f"{path}: every module must have lora_A and lora_B, but {named(name)} has only one of them", SAVE_AGAIN_HINT
        )
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise UserError(
            f"{path}: with rank {rank}, lora_A must be ({rank}, inputs) and lora_B (outputs, {rank}), but those of "
            f"{named(name)} are {a.shape} and {b.shape}",
            "`r` must be the rank of the tensors; a sharded model must be gathered before it is saved",
        )
    return (rank, a.shape[1], b.shape[0])


def _module_of(key: str, path: Path) -> str:
    name = key.removeprefix(PREFIX)
    for factor in (".lora_A.weight", ".lora_B.weight"):
        if key.startswith(PREFIX) and name.endswith(factor):
            return name.removesuffix(factor)
    raise UserError(
        f"{path}: only LoRA tensors named {PREFIX}<module>.lora_A.weight can be continued, but got {named(key)}",
        explained([key]) or f"`{typed('verify', str(path.parent))}` says how PEFT loads this file",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

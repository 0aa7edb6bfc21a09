"""Reads which weights a base's directory holds, from the headers of its safetensors files and without torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from trainables.errors import UserError, named
from trainables.io.files import MOST_FOREIGN_BYTES, FileDamaged, read_json
from trainables.model.peft_files import ADAPTER_CONFIG

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model*")
REPAIR_HINT = "download or save the base again, all files from one source"
DISTRIBUTED = "shard-*-model-*.safetensors"  # written by distributed training; transformers prefers them
GIT_LFS = b"version https://git-lfs"
SHOWN = 3  # names in a message
COMPARED_BYTES = 2**24  # at a time


@dataclass(frozen=True)
class FileEntry:
    """One tensor of a safetensors file, as the header describes it; dtypes are those of safetensors (`BF16`)."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class FileEntries:
    """All tensors that transformers reads from a directory, and the JSON that some of them hold as bytes."""

    tensors: Mapping[str, FileEntry]
    quantization_states: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def check_no_adapter(base: Path) -> None:
    """Check that a base's directory holds no adapter, which transformers would put on the base by itself.

    Raises:
        UserError: names the adapter's files.
    """
    found = sorted(path.name for pattern in ADAPTER_FILES for path in base.glob(pattern))
    if found:
        raise UserError(
            f"a base must be a model without an adapter, but {base} also holds {listed(found)}, which transformers "
            "puts on the model whenever it is loaded",
            "move the adapter's files to a directory of their own; --init-from DIR continues an adapter",
        )


def read_entries(base: Path, wanted_bytes: str) -> FileEntries:
    """Read the headers of the files that transformers loads: `model.safetensors`, or the shards of an index.

    `wanted_bytes` is a part of the names of tensors whose bytes are JSON; they are read too.

    Raises:
        UserError: a file is missing or damaged, or the index and its shards do not agree.
    """
    tensors: dict[str, FileEntry] = {}
    states: dict[str, dict[str, Any]] = {}
    for path, indexed in _files(base).items():
        held, read = _header(path, wanted_bytes)
        if indexed is not None:
            _check_shard(path, held, indexed)
        tensors |= held
        states |= read
    return FileEntries(tensors, states)


def equal_values(one: FileEntry, other: FileEntry) -> bool:
    """True when two tensors have the same dtype, shape and bytes; reads no further than the first difference."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as first, other.file.open("rb") as second:
        left = _seek(first, one.name)
        _seek(second, other.name)
        while left > 0:
            size = min(left, COMPARED_BYTES)
            if first.read(size) != second.read(size):
                return False
            left -= size
    return True


def _seek(file: BinaryIO, name: str) -> int:
    """Go to the bytes of a tensor in a safetensors file and return their number (format: header size, header, data)."""
    file.seek(0)
    size = int.from_bytes(file.read(8), "little")
    start, end = json.loads(file.read(size))[name]["data_offsets"]
    file.seek(8 + size + start)
    return end - start


def listed(names: Iterable[str]) -> str:
    """Return the first names in backticks, and how many more there are."""
    every = [f"`{named(name)}`" for name in names]
    more = f" and {len(every) - SHOWN:,} more" if len(every) > SHOWN else ""
    return f"{', '.join(every[:SHOWN])}{more}"


def _files(base: Path) -> dict[Path, set[str] | None]:
    """Return the weight files in the order of reading, each with the names that the index gives it, if there is one."""
    single, index = base / WEIGHTS, base / INDEX
    shards = _shards(index) if index.is_file() else {}
    copies = sorted(path.name for path in base.glob(DISTRIBUTED)) or sorted(set(shards) - {WEIGHTS})
    if copies and (single.is_file() or copies[0] not in shards):
        raise UserError(
            f"a base must hold its weights once, as {WEIGHTS} or as shards listed in {INDEX}, but {base} has "
            f"{listed([*([WEIGHTS] if single.is_file() else []), *copies])}",
            "move the files that are not of this base to another directory",
        )
    if shards:
        missing = [name for name in shards if not (base / name).is_file()]
        if missing:
            raise UserError(
                f"{index}: every file that it lists must exist, but of {len(shards)} files {listed(missing)} do not",
                REPAIR_HINT,
            )
        return {base / name: names for name, names in shards.items()}
    if not single.is_file():
        found = sorted(path.name for path in base.glob("*.safetensors"))
        raise UserError(
            f"a base must hold its weights as {WEIGHTS}, or as shards listed in {INDEX}, but {base} has only "
            f"{listed(found) if found else 'neither'}",
            REPAIR_HINT,
        )
    return {single: None}


def _shards(index: Path) -> dict[str, set[str]]:
    try:
        values = read_json(index, MOST_FOREIGN_BYTES)
    except FileDamaged as error:
        raise UserError(error.message, REPAIR_HINT) from None
    places = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(one, str) for one in places.values()):
        raise UserError(f"{index}: `weight_map` must give a file for every weight, but it does not", REPAIR_HINT)
    outside = [name for name in places.values() if Path(name).name != name]
    if outside:
        raise UserError(f"{index}: files must be in the same directory, but got `{named(outside[0])}`", REPAIR_HINT)
    shards: dict[str, set[str]] = {}
    for name, file in sorted(places.items()):
        shards.setdefault(file, set()).add(name)
    return dict(sorted(shards.items()))


def _check_shard(path: Path, held: Collection[str], indexed: set[str]) -> None:
    absent, unlisted = sorted(indexed - set(held)), sorted(set(held) - indexed)
    if absent or unlisted:
        reason = f"holds no {listed(absent)}" if absent else f"also holds {listed(unlisted)}"
        raise UserError(f"{path}: a shard must hold what {INDEX} lists for it, but it {reason}", REPAIR_HINT)


def _header(path: Path, wanted_bytes: str) -> tuple[dict[str, FileEntry], dict[str, dict[str, Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 a file is no dict
            held = {
                name: FileEntry(path, name, tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()
            }
            states = {name: json.loads(bytes(file.get_tensor(name))) for name in held if wanted_bytes in name}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    return held, states


def _damaged(path: Path, error: Exception) -> UserError:
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(GIT_LFS)) == GIT_LFS
    except OSError:
        is_pointer = False
    if is_pointer:
        return UserError(
            f"{path}: must hold weights, but it is a pointer of Git LFS", "`git lfs pull` fetches the file"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: must be a whole safetensors file, but {reason}", REPAIR_HINT)

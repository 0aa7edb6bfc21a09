"""Reads the tensors of a safetensors file as float32 arrays, without torch; numpy itself has no bfloat16.

The format: eight bytes with the length of the header, the header as JSON, then the data; all little-endian
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.errors import UserError

Shape = tuple[int, ...]
FLOATS: Mapping[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
CHUNK_VALUES = 1 << 22  # 16 MiB in float32


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its type as safetensors names it (`F32`, `BF16`), its shape, and where its data begins."""

    dtype: str
    shape: Shape
    start_bytes: int

    @property
    def is_float(self) -> bool:
        """True for the types in which adapters are trained: float64, float32, float16 and bfloat16."""
        return self.dtype in FLOATS


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read names, types and shapes of a file, and check that its data is whole.

    Raises:
        UserError: the file is not a complete safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):  # checks the header and the length of the data
            pass
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_bytes))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: the adapter's weights must be safetensors, but {error}", "save it again") from None
    start = 8 + header_bytes
    return {
        name: Tensor(one["dtype"], tuple(one["shape"]), start + one["data_offsets"][0])
        for name, one in header.items()
        if name != "__metadata__"
    }


def chunks(path: Path, tensor: Tensor) -> Iterator[np.ndarray]:
    """Yield the values of a tensor of a floating type in order, as one-dimensional float32 arrays of at most 16 MiB."""
    count = int(np.prod(tensor.shape, dtype=np.int64))
    if count == 0:
        return
    data = np.memmap(path, FLOATS[tensor.dtype], "r", tensor.start_bytes, (count,))
    for first in range(0, count, CHUNK_VALUES):
        part = np.asarray(data[first : first + CHUNK_VALUES])
        if tensor.dtype == "BF16":  # the upper half of a float32
            yield (part.astype(np.uint32) << 16).view(np.float32)
        else:
            yield part.astype(np.float32)


def is_finite(path: Path, tensor: Tensor) -> bool:
    """Return True if a tensor of a floating type holds neither NaN nor an infinity."""
    return all(bool(np.isfinite(part).all()) for part in chunks(path, tensor))


def are_equal(path: Path, tensor: Tensor, other_path: Path, other: Tensor) -> bool:
    """Return True if two tensors of floating types have the same shape and, in float32, the same values."""
    pairs = zip(chunks(path, tensor), chunks(other_path, other), strict=True)
    return tensor.shape == other.shape and all(np.array_equal(one, two) for one, two in pairs)

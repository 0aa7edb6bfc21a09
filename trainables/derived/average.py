"""Averages the weight changes of several LoRA adapters, and cuts the mean to their rank.

The mean of B A over adapters has a rank of up to the sum of their ranks. Its best approximation of a given rank in the
Frobenius norm is its truncated SVD (Eckart and Young 1936), computed here from the factors, without a dense matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.checkpoints.tensor_file import chunks, read_tensors
from trainables.model.peft_files import PREFIX

Arrays = Mapping[str, np.ndarray]
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class CutAverage:
    """The factors of an averaged adapter by PEFT's keys, and the relative error of the cut to its rank.

    The error is the Frobenius norm of what is cut off, over all modules, divided by that of the whole mean.
    """

    tensors: dict[str, np.ndarray]
    relative_error: float


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file as float32 arrays.

    Raises:
        UserError: the file is not a complete safetensors file.
    """
    found = {}
    for name, tensor in read_tensors(path).items():
        found[name] = np.concatenate([*chunks(path, tensor), np.empty(0, np.float32)]).reshape(tensor.shape)
    return found


def averaged(adapters: Sequence[Arrays]) -> CutAverage:
    """Return the average of adapters with the same modules, rank and scaling.

    Raises:
        ValueError: their tensors differ in name or shape.
    """
    shapes = [{name: one.shape for name, one in adapter.items()} for adapter in adapters]
    if not shapes or any(one != shapes[0] for one in shapes):
        raise ValueError("averaged adapters must have the same tensors, but their names or shapes differ")
    tensors: dict[str, np.ndarray] = {}
    lost = whole = 0.0
    for module in [name.removesuffix(DOWN) for name in shapes[0] if name.endswith(DOWN)]:
        downs, ups = ([adapter[module + key].astype(np.float64) for adapter in adapters] for key in (DOWN, UP))
        down, up, singular = _cut(downs, ups)
        tensors |= {module + DOWN: down.astype(np.float32), module + UP: up.astype(np.float32)}
        lost += float((singular[len(down) :] ** 2).sum())
        whole += float((singular**2).sum())
    return CutAverage(tensors, (lost / whole) ** 0.5 if whole else 0.0)


def _cut(downs: Sequence[np.ndarray], ups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A (rank, inputs) and B (outputs, rank) of the cut mean of B A, and all singular values of the mean."""
    rank, inputs = downs[0].shape
    left, left_core = np.linalg.qr(np.concatenate(ups, axis=1) / len(ups))
    right, right_core = np.linalg.qr(np.concatenate(downs, axis=0).T)
    outer, singular, inner = np.linalg.svd(left_core @ right_core.T)
    kept = min(rank, len(singular))
    root = np.sqrt(singular[:kept])
    down, up = np.zeros((rank, inputs)), np.zeros((len(ups[0]), rank))
    down[:kept] = root[:, None] * (inner[:kept] @ right.T)
    up[:, :kept] = (left @ outer[:, :kept]) * root
    return down, up, singular


def foreign_tensors(names: Sequence[str]) -> list[str]:
    """Return the names that are no LoRA factor, of which an average is not defined."""
    return [name for name in names if not (name.startswith(PREFIX) and name.endswith((DOWN, UP)))]

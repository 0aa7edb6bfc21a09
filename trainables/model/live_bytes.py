"""Counts the bytes of the tensors that are alive, and their peak: what a device must hold, without the process around.

On CUDA `torch.cuda.max_memory_allocated` counts the same. Memory that an operation uses only while it runs is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Within the block, follows the storage of every tensor that an operation returns until it is freed.

    `now` and `peak` include the tensors given at the start. With `limit_bytes` an operation that exceeds them raises
    `torch.OutOfMemoryError`, as an allocator does.
    """

    def __init__(self, held: Iterable[torch.Tensor] = (), limit_bytes: int | None = None) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.limit_bytes = limit_bytes
        self._known: dict[int, weakref.ref[Any]] = {}
        for tensor in held:
            self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count the storages of what it returns."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        if self.limit_bytes is not None and self.now > self.limit_bytes:
            raise torch.OutOfMemoryError(f"{self.limit_bytes:,} bytes are exceeded by {self.now - self.limit_bytes:,}")
        return out

    def _add(self, tensor: torch.Tensor) -> None:
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is storage:
            return

        def freed(_: Any) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)

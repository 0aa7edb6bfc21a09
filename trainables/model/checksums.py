"""Checksums and memory size of the frozen base's tensors, including quantization state."""

from __future__ import annotations

from collections.abc import Iterator

import torch

QUANTIZATION_TENSORS = ("absmax", "code", "offset")


def base_checksums(model: torch.nn.Module) -> dict[str, int]:
    """Return a checksum of every tensor that is not part of LoRA, by name, computed on the tensor's device."""
    return {name: _sum_of_bits(tensor) for name, tensor in base_tensors(model)}


def base_megabytes(model: torch.nn.Module) -> float:
    """Return the size in MB (10^6 bytes) of all tensors that are not part of LoRA, including quantization state."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in base_tensors(model)) / 1e6


def base_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor that is not part of LoRA with its name, including quantization state."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if "lora_" not in name:
            yield from with_state(name, tensor)


def with_state(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a tensor, and those of its quantization state, by name."""
    yield name, tensor.detach()
    state = getattr(tensor, "quant_state", None)
    for depth, nested in enumerate((state, getattr(state, "state2", None))):
        for key in QUANTIZATION_TENSORS:
            part = getattr(nested, key, None)
            if isinstance(part, torch.Tensor):
                yield f"{name}.quant_state.{depth}.{key}", part
    scales = getattr(tensor, "SCB", None)
    if isinstance(scales, torch.Tensor):
        yield f"{name}.SCB", scales


def _sum_of_bits(tensor: torch.Tensor) -> int:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    lanes = flat.view(torch.int32) if flat.numel() % 4 == 0 and flat.storage_offset() % 4 == 0 else flat
    return int(lanes.sum(dtype=torch.int64))

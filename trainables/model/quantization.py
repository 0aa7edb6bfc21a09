"""The quantizations of the frozen base, each really through bitsandbytes, on CPU and on GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainables.spec import ComputeDtype, Quantization

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig


METHODS = {"none": "LoRA", "int8": "LoRA on an int8 base", "fp4": "QLoRA", "nf4": "QLoRA", "nf4-double": "QLoRA"}


def _four_bit(kind: str, double: bool) -> Callable[[torch.dtype], BitsAndBytesConfig]:
    def config(dtype: torch.dtype) -> BitsAndBytesConfig:
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=kind,
            bnb_4bit_use_double_quant=double,
            bnb_4bit_compute_dtype=dtype,
        )

    return config


def _eight_bit(_: torch.dtype) -> BitsAndBytesConfig:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)


QUANT_MODES: dict[Quantization, Callable[[torch.dtype], BitsAndBytesConfig] | None] = {
    "none": None,
    "int8": _eight_bit,
    "fp4": _four_bit("fp4", double=False),
    "nf4": _four_bit("nf4", double=False),
    "nf4-double": _four_bit("nf4", double=True),
}


def quantization_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return the bitsandbytes configuration of a mode, None for the unquantized base."""
    mode = QUANT_MODES[quantization]
    return mode(dtype) if mode else None


def resolve_dtype(compute_dtype: ComputeDtype, device: torch.device) -> torch.dtype:
    """Turn the compute dtype setting into a dtype: `auto` is bfloat16 on CUDA and float32 on CPU."""
    import torch

    if compute_dtype != "auto":
        return getattr(torch, compute_dtype)
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def keep_gradients(model: torch.nn.Module) -> int:
    """Keep 4-bit layers differentiable after an eval; returns how many layers were told.

    On CPUs with AVX512-BF16 bitsandbytes repacks a 4-bit weight in place at its first forward in eval mode, and the
    packed kernel has no autograd: every adapter below it would go dead at the first probe (failure F36).
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)

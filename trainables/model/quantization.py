"""The quantizations of the frozen base, in one table, and their bitsandbytes configurations.

To add a quantization, add its name in `trainables/spec.py` and its line in `QUANTIZATION_TABLE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainables.spec import ComputeDtype, Quantization

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig


@dataclass(frozen=True)
class QuantizationFacts:
    """One quantization in the terms of bitsandbytes; `bits` is 0 for an unquantized base.

    `kind` and `double_quantization` apply only to 4 bits. `method` is the name in a model card, `layer` the class of
    the quantized linears.
    """

    bits: Literal[0, 4, 8]
    kind: str
    double_quantization: bool
    method: str
    layer: str
    description: str


QUANTIZATION_TABLE: Mapping[Quantization, QuantizationFacts] = {
    "none": QuantizationFacts(0, "", False, "LoRA", "Linear", "the base as it is stored"),
    "int8": QuantizationFacts(8, "", False, "LoRA on an int8 base", "Linear8bitLt", "LLM.int8, outliers above 6"),
    "fp4": QuantizationFacts(4, "fp4", False, "QLoRA", "Linear4bit", "4-bit floats"),
    "nf4": QuantizationFacts(4, "nf4", False, "QLoRA", "Linear4bit", "4-bit NormalFloat"),
    "nf4-double": QuantizationFacts(
        4, "nf4", True, "QLoRA", "Linear4bit", "4-bit NormalFloat, its scales quantized again"
    ),
}
FOUR_BIT: tuple[Quantization, ...] = tuple(name for name, facts in QUANTIZATION_TABLE.items() if facts.bits == 4)
FOUR_BIT_KINDS = tuple(dict.fromkeys(QUANTIZATION_TABLE[name].kind for name in FOUR_BIT))
DEFAULT_FOUR_BIT: Quantization = "nf4-double"
INT8_OUTLIER_THRESHOLD = 6.0  # of LLM.int8, the paper's and bitsandbytes' default


def quantization_named(bits: int, kind: str, double_quantization: bool) -> Quantization | None:
    """Return the quantization with these settings, or None; `kind` and double quantization apply only to 4 bits."""
    own = (bits, kind, double_quantization) if bits == 4 else (bits, "", False)
    found = ((facts.bits, facts.kind, facts.double_quantization) for facts in QUANTIZATION_TABLE.values())
    return next((name for name, one in zip(QUANTIZATION_TABLE, found, strict=True) if one == own), None)


def quantization_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return the bitsandbytes configuration of a quantization, or None for an unquantized base."""
    from transformers import BitsAndBytesConfig

    facts = QUANTIZATION_TABLE[quantization]
    if facts.bits == 4:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=facts.kind,
            bnb_4bit_use_double_quant=facts.double_quantization,
            bnb_4bit_compute_dtype=dtype,
        )
    if facts.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=INT8_OUTLIER_THRESHOLD)
    return None


def resolve_dtype(compute_dtype: ComputeDtype, device: torch.device) -> torch.dtype:
    """Return the torch dtype of a setting; `auto` is bfloat16 on CUDA and float32 on CPU."""
    import torch

    if compute_dtype != "auto":
        return getattr(torch, compute_dtype)
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def keep_gradients(model: torch.nn.Module) -> int:
    """Keep 4-bit layers differentiable after an eval; return the number of such layers.

    On CPUs with AVX512-BF16 bitsandbytes repacks a 4-bit weight in place at its first forward in eval mode. The packed
    kernel has no autograd, so no adapter below it would get a gradient after the first eval (failure F36).
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)

"""The quantizations of the frozen base: one table of what each is, and how bitsandbytes loads it.

Adding one takes its name in `trainables/spec.py` and its line in `QUANTIZATION_TABLE`; everything else reads the table.
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
    """What a quantization is, in bitsandbytes' own terms; `bits` is 0 for an unquantized base.

    `kind` and `double_quantization` mean something at 4 bits alone. `method` is its name in a model card, `layer` the
    class of a linear on such a base.
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
    """Return the quantization with these settings, None where there is none; 0 and 8 bits have no kind."""
    own = (bits, kind, double_quantization) if bits == 4 else (bits, "", False)
    found = ((facts.bits, facts.kind, facts.double_quantization) for facts in QUANTIZATION_TABLE.values())
    return next((name for name, one in zip(QUANTIZATION_TABLE, found, strict=True) if one == own), None)


def quantization_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return the bitsandbytes configuration of a quantization, None for the unquantized base."""
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
    """Turn the compute dtype setting into a dtype: `auto` is bfloat16 on CUDA and float32 on CPU."""
    import torch

    if compute_dtype != "auto":
        return getattr(torch, compute_dtype)
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def keep_gradients(model: torch.nn.Module) -> int:
    """Keep 4-bit layers differentiable after an eval; returns how many layers were set.

    On CPUs with AVX512-BF16 bitsandbytes repacks a 4-bit weight in place at its first forward in eval mode, and the
    packed kernel has no autograd: every adapter below it would go dead at the first probe (failure F36).
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)

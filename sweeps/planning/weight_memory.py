"""Forecasts the bytes of a base's weights as an engine holds them, from the headers of its files; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainables.model.families import TOWERS
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.model.stored_base import HEAD, StoredBase
from trainables.spec import Quantization

BLOCK, NESTED_BLOCK = 64, 256  # values that share a scale, and scales that share one, as bitsandbytes has them
FLOAT = 4  # bytes of a scale
CODE, NESTED_CODE = 16 * FLOAT, 256 * FLOAT  # the table of a 4-bit type, and that of quantized scales, for each linear


@dataclass(frozen=True)
class WeightMemory:
    """The bytes of a base: of the linears in its towers as they are held, of the rest, and of its largest linear.

    `cast` is what a linear takes while it is dequantized for a product; 0 where nothing is.
    """

    linears: int
    rest: int
    cast: int

    @property
    def total(self) -> int:
        """Return the bytes that are held all the time."""
        return self.linears + self.rest


def weight_memory(
    base: StoredBase, quantization: Quantization, value_bytes: int, dequantized: bool = False
) -> WeightMemory:
    """Return the memory of a base in a quantization; `value_bytes` are those of the compute dtype.

    With `dequantized`, 4-bit weights are held in the compute dtype (`--resident dequantized`).
    """
    shapes = {linear.name: (linear.inputs, linear.outputs)
              for tower in TOWERS for block in base.family.towers(base.config)[tower] for linear in block}  # fmt: skip
    others = {name: weight.shape for name, weight in base.weights.items() if name.removesuffix(".weight") not in shapes}
    # transformers quantizes every linear but the head; outside the towers those are the mergers of pictures
    shapes |= {name: (shape[1], shape[0]) for name, shape in others.items() if _is_linear(name, shape)}
    rest = sum(math.prod(shape) for name, shape in others.items() if name not in shapes)
    held = quantization if not dequantized else "none"
    linears = sum(_linear_bytes(held, inputs, outputs, value_bytes) for inputs, outputs in shapes.values())
    largest = max(inputs * outputs for inputs, outputs in shapes.values())
    cast = 0 if QUANTIZATION_TABLE[held].bits == 0 else largest * value_bytes
    return WeightMemory(linears, rest * value_bytes, cast)


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and name.endswith(".weight") and "embed" not in name and name != HEAD


def _linear_bytes(quantization: Quantization, inputs: int, outputs: int, value_bytes: int) -> int:
    facts, values = QUANTIZATION_TABLE[quantization], inputs * outputs
    if facts.bits == 0:
        return values * value_bytes
    if facts.bits == 8:
        return values + outputs * FLOAT
    scales = -(-values // BLOCK)
    if not facts.double_quantization:
        return values // 2 + scales * FLOAT + CODE
    return values // 2 + scales + -(-scales // NESTED_BLOCK) * FLOAT + CODE + NESTED_CODE + FLOAT

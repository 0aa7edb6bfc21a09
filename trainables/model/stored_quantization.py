"""Tells in which quantization the weights of a base are stored, from config.json and the files' headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import UserError, quoted
from trainables.model.quantization import INT8_OUTLIER_THRESHOLD, quantization_named
from trainables.model.weight_files import REPAIR_HINT, FileEntries, FileEntry
from trainables.spec import Quantization

UNQUANTIZED: Quantization = "none"
FLOATS = ("F64", "F32", "F16", "BF16")
# Names that bitsandbytes gives to the parts of a quantized weight, after the name of the weight or of its module.
STATE = ".quant_state.bitsandbytes__"
FOUR_BIT_PARTS = (".absmax", ".quant_map")
NESTED_PARTS = (".nested_absmax", ".nested_quant_map")
INT8_SCALES, INT8_FORMAT = ".SCB", ".weight_format"
BLOCK_SIZE, NESTED_BLOCK_SIZE = 64, 256  # what bitsandbytes quantizes with when a base is loaded
# Names of weights that other methods add; bitsandbytes has none of them.
OTHER_METHODS = {
    ".qweight": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "8 or 4 bits with scales",
    ".weight_scale_inv": "8-bit floats in blocks",
}


@dataclass(frozen=True)
class StoredWeight:
    """One weight: where it lies, its shape in the model, and how it is quantized there (`none`: a float)."""

    entry: FileEntry
    shape: tuple[int, ...]
    quantization: str = UNQUANTIZED


def stored_weights(entries: FileEntries) -> dict[str, StoredWeight]:
    """Return the weights of a base; the parts of a weight that bitsandbytes quantized are one weight.

    Raises:
        UserError: parts of a quantized weight are missing or do not fit each other.
    """
    parts: set[str] = set()
    weights = {name: _plain(name, entry) for name, entry in entries.tensors.items()}
    for name, state in entries.quantization_states.items():
        weight = name.partition(STATE)[0]
        parts |= {name, *(f"{weight}{part}" for part in _needed_parts(state))}
        weights[weight] = _four_bit(weight, name, state, entries.tensors)
    for name in entries.tensors:
        module = name.removesuffix(INT8_SCALES)
        weight = f"{module}.weight"
        if module != name and weight in weights and entries.tensors[weight].dtype == "I8":
            parts |= {name, f"{module}{INT8_FORMAT}"}
            weights[weight] = StoredWeight(entries.tensors[weight], entries.tensors[weight].shape, "int8")
    return {name: weight for name, weight in weights.items() if name not in parts}


def declared_quantization(config: Mapping[str, Any]) -> str:
    """Return the quantization that config.json declares: one of ours, `none`, or the name of another method."""
    inner = config.get("text_config") or {}
    for key in ("quantization_config", "compression_config"):
        declared = config.get(key) or inner.get(key)
        if declared:
            return _named(declared) if isinstance(declared, Mapping) else quoted(declared)
    return UNQUANTIZED


def _named(declared: Mapping[str, Any]) -> str:
    method = str(declared.get("quant_method") or "an unnamed method")
    kind = declared.get("bnb_4bit_quant_type", "fp4")
    if declared.get("load_in_4bit"):
        storage = str(declared.get("bnb_4bit_quant_storage") or "uint8")
        name = quantization_named(4, str(kind), bool(declared.get("bnb_4bit_use_double_quant")))
        return name if name and storage == "uint8" else f"{method} in 4 bits ({kind}, stored as {storage})"
    if declared.get("load_in_8bit"):
        threshold = declared.get("llm_int8_threshold", INT8_OUTLIER_THRESHOLD)
        usual = threshold == INT8_OUTLIER_THRESHOLD and not declared.get("llm_int8_has_fp16_weight")
        return "int8" if usual else f"{method} in 8 bits (outliers above {threshold})"
    return method


def _plain(name: str, entry: FileEntry) -> StoredWeight:
    other = next((method for suffix, method in OTHER_METHODS.items() if name.endswith(suffix)), None)
    quantization = other or (UNQUANTIZED if entry.dtype in FLOATS else entry.dtype)
    return StoredWeight(entry, entry.shape, quantization)


def _needed_parts(state: Mapping[str, Any]) -> tuple[str, ...]:
    return (*FOUR_BIT_PARTS, *(NESTED_PARTS if "nested_blocksize" in state else ()))


def _four_bit(weight: str, name: str, state: Mapping[str, Any], tensors: Mapping[str, FileEntry]) -> StoredWeight:
    where = tensors[name].file
    missing = [part for part in ("", *_needed_parts(state)) if f"{weight}{part}" not in tensors]
    shape, nested = state.get("shape"), state.get("nested_blocksize")
    if missing or not isinstance(shape, list):
        what = f"`{weight}{missing[0]}` is missing" if missing else "its shape is missing"
        raise UserError(f"{where}: a weight in 4 bits must be complete, but {what}", REPAIR_HINT)
    packed = tensors[weight]
    if packed.dtype != "U8" or math.prod(packed.shape) != -(-math.prod(shape) // 2):
        raise UserError(
            f"{where}: `{weight}` must hold {shape} values in 4 bits, but it is {packed.dtype} {list(packed.shape)}",
            REPAIR_HINT,
        )
    blocks = (state.get("blocksize"), nested or NESTED_BLOCK_SIZE)
    known = quantization_named(4, str(state.get("quant_type")), nested is not None)
    usual = known if blocks == (BLOCK_SIZE, NESTED_BLOCK_SIZE) else None
    return StoredWeight(packed, tuple(shape), usual or f"{state.get('quant_type')} in blocks of {blocks[0]}")

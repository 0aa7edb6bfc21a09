"""Computes the quantization and the compute dtype of an imported trial."""

from __future__ import annotations

from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.setting import Setting
from trainables.model.quantization import quantization_named


def quantization_of(parsed: ParsedConfig) -> Setting:
    """Return the quantization of the base.

    Raises:
        UserError: keys contradict each other, or the quantization is not one of those that trials can have.
    """
    bits = parsed.value("bits") or 4 * bool(parsed.value("four_bit")) or 8 * bool(parsed.value("eight_bit"))
    if parsed.value("four_bit") and parsed.value("eight_bit"):
        raise parsed.error("eight_bit", "must be off if load_in_4bit is on", "choose one of the two")
    if parsed.value("method") == "qlora" and bits != 4:
        raise parsed.error("method", "needs load_in_4bit: true for qlora", "or adapter: lora")
    if bits not in (0, 4, 8):
        raise parsed.error("bits", f"must be 4 or 8, but got {bits}", "remove the key for no quantization")
    kind = parsed.value("four_bit_kind")
    quantization = quantization_named(bits, kind, bool(parsed.value("double_quantization")))
    sources = [parsed.origin("bits", "four_bit", "eight_bit")]
    sources += [parsed.origin("four_bit_kind", "double_quantization") + " for its kind"] if bits == 4 else []
    if quantization is None:
        raise parsed.error("four_bit_kind", "must be nf4 with double quantization", "or switch double quantization off")
    return Setting("quantization", quantization, ", ".join(sources), _own_dtype(parsed) if bits == 4 else "")


def compute_dtype_of(parsed: ParsedConfig) -> Setting:
    """Return the dtype of the forward pass.

    Raises:
        UserError: both half precisions are on.
    """
    brain, half = parsed.value("bf16"), parsed.value("fp16")
    if brain is True and half:
        raise parsed.error("fp16", "must be off if bf16 is on", "choose one of the two")
    source = parsed.origin("dtype", "bf16", "fp16", "pure_bf16")
    value = _dtype(parsed)
    return Setting("compute_dtype", value, source, _difference(parsed, value))


def _dtype(parsed: ParsedConfig) -> str:
    brain = parsed.value("bf16")
    if parsed.value("pure_bf16"):
        return "bfloat16"
    if parsed.value("fp16"):
        return "float16"
    if brain is True:
        return "bfloat16"
    return parsed.value("dtype") or ("auto" if brain == "auto" else "float32")


def _difference(parsed: ParsedConfig, value: str) -> str:
    tool = parsed.tool.name
    if parsed.value("pure_bf16"):
        return f"{tool} trains the adapter in bfloat16, this trial in float32"
    if value == "float16":
        return f"{tool} scales the loss of float16 against underflow; this trial does not"
    if value == "float32" and tool == "ms-swift" and parsed.value("fp16") is not False:
        return "ms-swift computes float32 weights in float16, unless `fp16` is false; this trial computes in float32"
    return ""


def _own_dtype(parsed: ParsedConfig) -> str:
    own, dtype = parsed.value("four_bit_dtype"), _dtype(parsed)
    if own in (None, "auto", dtype) or (dtype == "auto" and own == "bfloat16"):
        return ""
    return f"{parsed.tool.name} multiplies 4-bit weights in {own}; this trial in its compute dtype, {dtype}"

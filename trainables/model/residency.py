"""Decides whether 4-bit weights stay quantized in memory, and dequantizes them once if not.

bitsandbytes dequantizes a 4-bit weight at every use. A weight that is dequantized once, into the compute dtype, takes
part in the same products: on a CPU all results are bit-equal. On CUDA bitsandbytes multiplies small batches without a
gradient by fused kernels, so that results without a gradient differ within the rounding of another kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from trainables.errors import UserError, named, nearest
from trainables.model.quantization import FOUR_BIT, QUANTIZATION_TABLE
from trainables.spec import Quantization

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from bitsandbytes.nn.modules import Linear4bit

Residency = Literal["unquantized", "quantized", "dequantized"]
ResidencyChoice = Literal["auto", "quantized", "dequantized"]

MAX_SHARE_OF_FREE_MEMORY = 0.25  # for what dequantized weights take more; activations and other engines need the rest
DEFAULT_CHOICE: ResidencyChoice = "auto"
CONTROL_GROUP = Path("/sys/fs/cgroup")  # of the container this process runs in; see the kernel's cgroup-v2.rst


@dataclass(frozen=True)
class WeightBytes:
    """The bytes of all 4-bit weights of a model, quantized with their scales and dequantized."""

    quantized: int
    dequantized: int


def residency_choice(text: str) -> ResidencyChoice:
    """Return the choice that `text` names; empty is `auto`.

    Raises:
        UserError: there is no such choice.
    """
    for known in get_args(ResidencyChoice):
        if text == known:
            return known
    if text:
        choices = get_args(ResidencyChoice)
        raise UserError(f"--resident must be one of {', '.join(choices)}, but got `{named(text)}`",
                        nearest(text, choices))  # fmt: skip
    return DEFAULT_CHOICE


def check_residency(choice: ResidencyChoice, quantizations: Iterable[Quantization]) -> None:
    """Refuse to hold weights dequantized whose products are not those of the dequantized weights.

    LLM.int8 quantizes the inputs of a product too, so a dequantized int8 base is another base.

    Raises:
        UserError: names the quantization.
    """
    refused = [one for one in dict.fromkeys(quantizations) if QUANTIZATION_TABLE[one].bits == 8]
    if choice == "dequantized" and refused:
        raise UserError(
            f"--resident dequantized holds weights of {', '.join(FOUR_BIT)}, but a trial asks for {refused[0]}, whose "
            "products are not those of its dequantized weights",
            "--resident auto dequantizes where results stay the same",
        )


def resolve(choice: ResidencyChoice, quantization: Quantization, weights: WeightBytes, free_bytes: int) -> Residency:
    """Return how a base is held: `auto` dequantizes 4-bit weights if the additional memory is a small part of the free.

    Raises:
        UserError: the choice is impossible for the quantization.
    """
    check_residency(choice, (quantization,))
    bits = QUANTIZATION_TABLE[quantization].bits
    if bits == 0:
        return "unquantized"
    if bits == 8 or choice == "quantized":
        return "quantized"
    added_bytes = weights.dequantized - weights.quantized
    fits = added_bytes <= MAX_SHARE_OF_FREE_MEMORY * free_bytes
    return "dequantized" if fits or choice == "dequantized" else "quantized"


def settle(
    model: torch.nn.Module, choice: ResidencyChoice, quantization: Quantization, dtype: torch.dtype,
    device: torch.device,
) -> Residency:  # fmt: skip
    """Dequantize the 4-bit linears of a loaded model if `choice` and the free memory say so; return what was done.

    Raises:
        UserError: the choice is impossible for the quantization.
    """
    layers = four_bit_layers(model)
    residency = resolve(choice, quantization, weight_bytes(layers.values(), dtype), free_bytes(device))
    if residency == "dequantized":
        for name, layer in layers.items():
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, dequantized(layer, dtype))
    return residency


def four_bit_layers(model: torch.nn.Module) -> dict[str, Linear4bit]:
    """Return the 4-bit linears of a model by their names."""
    from bitsandbytes.nn.modules import Linear4bit

    return {name: module for name, module in model.named_modules() if type(module) is Linear4bit}


def weight_bytes(layers: Iterable[Linear4bit], dtype: torch.dtype) -> WeightBytes:
    """Count the bytes of the weights of 4-bit linears, as they are held and in `dtype`."""
    from trainables.model.checksums import with_state

    every = list(layers)
    return WeightBytes(
        quantized=sum(tensor.nbytes for layer in every for _, tensor in with_state("weight", layer.weight)),
        dequantized=sum(layer.in_features * layer.out_features for layer in every) * dtype.itemsize,
    )


def dequantized(layer: Linear4bit, dtype: torch.dtype) -> torch.nn.Linear:
    """Return a linear with the weight of `layer` in `dtype`; the bias is the same tensor."""
    import torch
    from bitsandbytes.functional import dequantize_4bit

    held: Any = layer.weight  # a tensor with the state of its quantization
    weight = dequantize_4bit(held.data, held.quant_state).to(dtype)
    linear = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight, linear.bias = torch.nn.Parameter(weight, requires_grad=False), layer.bias
    return linear


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA device; of a CPU that of the machine, or of the container if it has less."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *_container_free_bytes()])


def _container_free_bytes() -> list[int]:
    try:
        limit, used = ((CONTROL_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:  # no control group of version 2, or none of our own
        return []
    return [int(limit) - int(used)] if limit.isdecimal() else []

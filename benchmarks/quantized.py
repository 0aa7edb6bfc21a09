"""Builds a Qwen3-VL of random NF4 weights layer by layer, so that it is never whole in memory in full precision."""

from __future__ import annotations

from typing import Any

import torch


def random_nf4(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Build the model of `config` on the meta device, then give every module random weights on `device`.

    Linears are quantized as transformers does: NF4 with double quantization, all but the head, computing in `dtype`.
    """
    from transformers import GenerationConfig, Qwen3VLForConditionalGeneration

    with torch.device("meta"):
        model: Any = Qwen3VLForConditionalGeneration(config)
        model = model.to(dtype)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _quantized(module, device, dtype))
    for module in model.modules():
        _materialize(module, device, dtype)
    model.tie_weights()
    left = [name for name, one in (*model.named_parameters(), *model.named_buffers()) if one.is_meta]
    if left:
        raise RuntimeError(f"every tensor must be on {device}, but {len(left)} are on meta, the first is {left[0]}")
    model.generation_config = GenerationConfig()
    model.is_loaded_in_4bit = True  # PEFT reads this to choose its LoRA layer
    model.requires_grad_(False)
    return model.eval()


def _quantized(linear: torch.nn.Linear, device: torch.device, dtype: torch.dtype) -> Any:
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    own = Linear4bit(
        linear.in_features, linear.out_features, bias=linear.bias is not None, compute_dtype=dtype,
        quant_type="nf4", device="meta",
    )  # fmt: skip
    values = torch.empty(linear.weight.shape, device=device, dtype=dtype).normal_(std=0.02)
    fresh: Any = Params4bit  # its own signature is not that of its base class
    own.weight = fresh(values, requires_grad=False, quant_type="nf4", module=own).to(device)
    if linear.bias is not None:
        own.bias = torch.nn.Parameter(torch.zeros(linear.out_features, device=device, dtype=dtype), requires_grad=False)
    return own


def _materialize(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
        # buffers are computed, not loaded, so those of a new module are correct
        fresh = type(module)(module.config)  # type: ignore[arg-type, call-arg]
        for name, buffer in fresh.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    for name, parameter in module.named_parameters(recurse=False):
        if not parameter.is_meta:
            continue
        values = torch.empty(parameter.shape, device=device, dtype=dtype)
        filled = values.fill_(1.0) if _is_norm(module, name) else values.normal_(std=0.02)
        setattr(module, name, torch.nn.Parameter(filled, requires_grad=False))


def _is_norm(module: torch.nn.Module, name: str) -> bool:
    return "Norm" in type(module).__name__ and name == "weight"

"""What decides the activations of a loaded base: its weights, configuration, device, libraries and code."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from trainables.frozen.key import Facts
from trainables.model.base import Base
from trainables.model.checksums import base_tensors

LIBRARIES = ("torch", "transformers", "bitsandbytes", "triton", "kernels", "flash_attn")
OWN_CODE = ("frozen", "model/families")  # all files of these folders
COMPUTED_IN = ("compute_dtype", "quant_type", "p", "eps", "attention_dropout")
# quantized weights and layers are digested themselves, and a dequantized base may have the configuration or not
NOT_COMPUTED = (
    "_name_or_path", "name_or_path", "transformers_version", "architectures", "use_cache", "quantization_config",
)  # fmt: skip
PACKAGE = Path(__file__).parents[1]


def facts_of(base: Base) -> Facts:
    """Read all that decides the activations of a base; reads every weight once."""
    config = base.model.config
    return Facts(
        weights=_weights(base.model),
        layers=_digest(list(_layers(base.model))),
        configuration=_digest(without(config.to_dict(), NOT_COMPUTED)),
        attention=_digest([str(one._attn_implementation) for one in (config, *_parts(config))]),
        device=device_text(base.device),
        arithmetic=_arithmetic(),
        versions=json.dumps({name: _version(name) for name in LIBRARIES}),
        code=code_digest(PACKAGE),
    )


def code_digest(package: Path) -> str:
    """Return the digest of our own code that computes activations."""
    digest = sha256()
    for folder in OWN_CODE:
        for path in sorted((package / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}\x00".encode() + path.read_bytes())
    return digest.hexdigest()


def device_text(device: torch.device) -> str:
    """Return type and model of a device; on a CPU the number of threads, which can change the order of a sum."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)} {torch.version.cuda}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"


def without(values: Any, names: tuple[str, ...]) -> Any:
    """Return nested values without the keys in `names`."""
    if isinstance(values, dict):
        return {str(key): without(value, names) for key, value in values.items() if key not in names}
    return [without(one, names) for one in values] if isinstance(values, list | tuple) else values


def is_random_in_training(base: Base) -> bool:
    """True when the base has dropout of its own, so that its activations differ from step to step in train mode."""
    return _has_dropout(base.model.config.to_dict()) or any(
        getattr(module, "p", 0.0) > 0
        for module in base.model.modules()
        if isinstance(module, torch.nn.modules.dropout._DropoutNd)
    )


def depends_on_mode(base: Base) -> bool:
    """True when train mode and eval mode compute differently, as int8 does on a CPU, or dropout of the base."""
    return is_int8(base) or is_random_in_training(base)


def longest_rotation(base: Base) -> float:
    """Return the most tokens of a batch whose rows do not change each other's rotary embedding.

    Longer ones change the frequencies of the whole batch in Phi-3's `longrope` and in `dynamic`; others have no limit.
    """
    rotary = getattr(base.decoder.config, "rope_parameters", None) or {}
    if rotary.get("rope_type") not in ("longrope", "dynamic"):
        return math.inf
    return rotary.get("original_max_position_embeddings") or base.decoder.config.max_position_embeddings


def is_int8(base: Base) -> bool:
    """True when linears of the base are int8."""
    return any(type(module).__name__ == "Linear8bitLt" for module in base.model.modules())


def _has_dropout(values: Any) -> bool:
    if isinstance(values, dict):
        return any(
            _has_dropout(value) or ("drop" in str(key) and isinstance(value, float) and value > 0)
            for key, value in values.items()
        )
    return any(map(_has_dropout, values)) if isinstance(values, list | tuple) else False


def _weights(model: torch.nn.Module) -> str:
    digest = sha256()
    for name, tensor in base_tensors(model):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor, copied to the CPU if they are not there."""
    flat: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def _layers(model: torch.nn.Module) -> Iterator[list[str]]:
    for name, module in model.named_modules():
        found = [f"{key}={getattr(module, key)}" for key in COMPUTED_IN if hasattr(module, key)]
        threshold = getattr(getattr(module, "state", None), "threshold", None)  # of int8
        yield [name, type(module).__qualname__, *found, str(threshold)]


def _parts(config: Any) -> Iterator[Any]:
    for name in ("text_config", "vision_config"):
        if getattr(config, name, None) is not None:
            yield getattr(config, name)


def _arithmetic() -> str:
    matmul = torch.backends.cuda.matmul
    flags = [
        torch.get_float32_matmul_precision(), matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
        matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction,
        torch.backends.mkldnn.enabled, torch.are_deterministic_algorithms_enabled(),
    ]  # fmt: skip
    return json.dumps(list(map(str, flags)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _digest(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()

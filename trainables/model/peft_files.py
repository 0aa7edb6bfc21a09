"""Names of the files in an adapter directory, and the prefix of PEFT's tensor names."""

from __future__ import annotations

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER_WEIGHTS = "optimizer.safetensors"
PREFIX = "base_model.model."
ADAPTER_NAME = "default"  # of an adapter in PEFT's memory, unless another one is given


def saved_name(key: str) -> str:
    """Return a tensor's name as PEFT saves it: without the name `default`, which PEFT accepts in a file too."""
    before, _, last = key.rpartition(".")
    return before if last == ADAPTER_NAME else f"{before.removesuffix(f'.{ADAPTER_NAME}')}.{last}" if before else key

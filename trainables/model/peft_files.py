"""Names of the files in an adapter directory, and the prefix of PEFT's tensor names."""

from __future__ import annotations

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER_WEIGHTS = "optimizer.safetensors"
PREFIX = "base_model.model."

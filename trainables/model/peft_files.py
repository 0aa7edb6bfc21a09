"""Names of the files that PEFT writes, and of the optimizer state beside them."""

from __future__ import annotations

ADAPTER_WEIGHTS = "adapter_model.safetensors"


ADAPTER_CONFIG = "adapter_config.json"


OPTIMIZER_WEIGHTS = "optimizer.safetensors"


PREFIX = "base_model.model."

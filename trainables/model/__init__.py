"""The model: base, family, quantization, placement, LoRA and optimizer."""

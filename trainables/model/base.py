"""Loads the base: a frozen, possibly quantized model with its tokenizer and, if any, its image processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainables.errors import UserError
from trainables.model.families import Blocks, Family, TowerName, family_of
from trainables.model.quantization import keep_gradients, quantization_config, resolve_dtype
from trainables.spec import ComputeDtype, Quantization


@dataclass(frozen=True)
class Base:
    """A loaded base on one device; `model` is a transformers model, which carries LoRA layers while a trial is open.

    `image_processor` is None if the family takes no images.
    """

    path: Path
    model: Any
    tokenizer: Any
    image_processor: Any
    family: Family
    towers: Mapping[TowerName, Blocks]
    device: torch.device

    @property
    def decoder(self) -> Any:
        """Return the decoder of the model without the head; it has `embed_tokens`, `layers` and `rotary_emb`."""
        return self.model.get_submodule(self.family.decoder)


def load_base(path: Path, quantization: Quantization, compute_dtype: ComputeDtype, device: torch.device) -> Base:
    """Load the base in directory `path`: frozen, quantized, in eval mode.

    Raises:
        UserError: the directory has no config or no safetensors weights, or the family is unknown.
    """
    import transformers

    family, config = family_of(path)
    dtype = resolve_dtype(compute_dtype, device)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = getattr(transformers, family.model_class).from_pretrained(
        path,
        dtype=dtype,
        quantization_config=quantization_config(quantization, dtype),
        device_map={"": device},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    # evals decode greedily, without the sampling or repetition penalty that the base may define for chat
    model.generation_config = transformers.GenerationConfig()
    keep_gradients(model)
    model.requires_grad_(False)
    model.eval()
    return Base(
        path=path,
        model=model,
        tokenizer=load_tokenizer(path),
        image_processor=load_image_processor(path, family),
        family=family,
        towers=family.towers(config),
        device=device,
    )


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a base; a missing padding token is set to the end-of-sequence token.

    Raises:
        UserError: the tokenizer has no end-of-sequence token.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    if tokenizer.eos_token is None:
        raise UserError(
            f"the tokenizer of a base must have an end-of-sequence token, but that of {path} has none",
            "set `eos_token` in tokenizer_config.json to the token that ends an answer",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_image_processor(path: Path, family: Family) -> Any:
    """Load the image processor of a base; return None if its family takes no images."""
    import transformers

    if family.image_processor_class is None:
        return None
    return getattr(transformers, family.image_processor_class).from_pretrained(path, local_files_only=True)


def predicted(base: Base, hidden: torch.Tensor) -> torch.Tensor:
    """Project hidden states (..., width) to logits (..., vocabulary) in float32, like the forward of the model."""
    logits, key = base.model.lm_head(hidden), base.family.logit_limit_key
    limit = getattr(base.model.config.get_text_config(), key) if key else None
    return (limit * torch.tanh(logits / limit) if limit else logits).float()


def default_device() -> torch.device:
    """Return the first CUDA device visible to this process, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

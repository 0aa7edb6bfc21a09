"""Loads the base: a frozen, possibly quantized model with its tokenizer and, if any, its image processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainables.errors import UserError
from trainables.model.checksums import base_megabytes
from trainables.model.families import Blocks, Family, TowerName
from trainables.model.families.family import Config
from trainables.model.loading import load_model, rebuilt
from trainables.model.quantization import keep_gradients, resolve_dtype
from trainables.model.residency import Residency, ResidencyChoice, settle
from trainables.model.shared_weights import LoadedWeights, SharedWeights
from trainables.model.stored_base import StoredBase, check_quantization, read_base
from trainables.model.weight_files import listed
from trainables.spec import ComputeDtype, Quantization


@dataclass(frozen=True)
class Base:
    """A loaded base on one device; `model` is a transformers model, which carries LoRA layers while a trial is open.

    `image_processor` is None if the family takes no images. `embedding_rows` is the number of tokens that the model
    knows. `megabytes` (10^6 bytes) is the size of its tensors as they are quantized, also when they are held
    dequantized. `config` is its `config.json`.
    """

    path: Path
    model: Any
    tokenizer: Any
    image_processor: Any
    family: Family
    towers: Mapping[TowerName, Blocks]
    device: torch.device
    embedding_rows: int
    residency: Residency
    megabytes: float
    config: Config = field(default_factory=dict)

    @property
    def decoder(self) -> Any:
        """Return the decoder of the model without the head; it has `embed_tokens`, `layers` and `rotary_emb`."""
        return self.model.get_submodule(self.family.decoder)


def load_base(
    path: Path, quantization: Quantization, compute_dtype: ComputeDtype, device: torch.device,
    resident: ResidencyChoice = "quantized", sharing: SharedWeights | None = None,
) -> Base:  # fmt: skip
    """Load the base in directory `path`: frozen, quantized, in eval mode; `resident` says how 4-bit weights are held.

    With `sharing`, its weights are those of a file that other processes of this node use too.

    Raises:
        UserError: the directory holds no base of a known family, its weights are not those that config.json describes,
            or they cannot be had or held in this quantization.
    """
    import transformers

    stored = read_base(path)
    check_quantization(stored, quantization)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = load_tokenizer(path)
    check_vocabulary(tokenizer, stored)
    dtype = resolve_dtype(compute_dtype, device)

    weights = _weights(stored, quantization, dtype, device, resident, sharing)
    model = weights.model
    # evals decode greedily, without the sampling or repetition penalty that the base may define for chat
    model.generation_config = transformers.GenerationConfig()
    model.requires_grad_(False).eval()
    return Base(
        path=path,
        model=model,
        tokenizer=tokenizer,
        image_processor=load_image_processor(path, stored.family),
        family=stored.family,
        towers=stored.family.towers(stored.config),
        device=device,
        embedding_rows=stored.embedding_rows,
        residency=weights.residency,
        megabytes=weights.megabytes,
        config=stored.config,
    )


def _weights(
    stored: StoredBase, quantization: Quantization, dtype: torch.dtype, device: torch.device,
    resident: ResidencyChoice, sharing: SharedWeights | None,
) -> LoadedWeights:  # fmt: skip
    def load() -> LoadedWeights:
        model = load_model(stored, quantization, dtype, device)
        keep_gradients(model)
        megabytes = base_megabytes(model)
        return LoadedWeights(model, settle(model, resident, quantization, dtype, device), megabytes)

    def rebuild(tensors: Mapping[str, torch.Tensor], residency: Residency) -> Any:
        model = rebuilt(stored, quantization if residency == "quantized" else "none", dtype, tensors)
        if model is not None:
            keep_gradients(model)
        return model

    if sharing is None or device.type != "cpu" or not sharing.is_worth(sum(one.stat().st_size for one in stored.files)):
        return load()
    return sharing.loaded(load, rebuild)


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


def check_vocabulary(tokenizer: Any, base: StoredBase) -> None:
    """Check that the embedding has a row for every token of the tokenizer, added tokens and padding included.

    Tokens that the family's file lists are left to the check of each row of data.

    Raises:
        UserError: names the first tokens without a row.
    """
    rows, known = base.embedding_rows, tokenizer.get_vocab()
    beyond = {token: number for token, number in known.items() if number >= rows}
    beyond |= {str(tokenizer.pad_token): tokenizer.pad_token_id} if tokenizer.pad_token_id >= rows else {}
    tokens = sorted(set(beyond) - set(base.family.tokens_without_embedding), key=beyond.__getitem__)
    if tokens:
        raise UserError(
            f"the embedding of a base must have a row for every token of its tokenizer, but in {base.path} it has "
            f"{rows:,} rows and the tokenizer has {listed(tokens)} from number {beyond[tokens[0]]:,} on",
            "use the tokenizer that was released with the weights; or resize the embedding and save the base again: "
            "`model.resize_token_embeddings(len(tokenizer))`",
        )


def load_image_processor(path: Path, family: Family) -> Any:
    """Load the image processor of a base; return None if its family takes no images."""
    import transformers

    if family.image_processor_class is None:
        return None
    return getattr(transformers, family.image_processor_class).from_pretrained(path, local_files_only=True)


def predicted(base: Base, hidden: torch.Tensor) -> torch.Tensor:
    """Project hidden states (..., width) to logits (..., vocabulary) in float32, like the forward of the model."""
    return capped(base, base.model.lm_head(hidden))


def capped(base: Base, output: torch.Tensor) -> torch.Tensor:
    """Return the logits in float32 of what the head computes: capped where the family caps them."""
    key = base.family.logit_limit_key
    limit = getattr(base.model.config.get_text_config(), key) if key else None
    return (limit * torch.tanh(output / limit) if limit else output).float()


def default_device() -> torch.device:
    """Return the first CUDA device visible to this process, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

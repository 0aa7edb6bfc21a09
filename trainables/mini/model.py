"""The miniature's architecture: transformers' Qwen3-VL classes with small sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.mini import tokenizer as tokens

LANGUAGE_LAYERS = 8
VISION_BLOCKS = 12
HIDDEN_SIZE = 128  # every Linear reads a multiple of 64 values, as 4-bit blocks on a CPU require
PATCH_PIXELS = 8
MERGE_SIZE = 2


@dataclass(frozen=True)
class Miniature:
    """A network with its tokenizer, and its Qwen2VLImageProcessorPil, None without a vision tower."""

    network: Any
    tokenizer: Any
    processor: Any


def fresh(seed: int) -> Miniature:
    """Create an untrained miniature of about 1.9 M parameters in float32."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = tokens.build()
    network = Qwen3VLForConditionalGeneration(configuration(tokenizer))
    network.generation_config.update(
        do_sample=False,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    return Miniature(network, tokenizer, image_processor())


def load(directory: Path) -> Miniature:
    """Load a saved miniature, computing in float32."""
    import torch
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration

    return Miniature(
        Qwen3VLForConditionalGeneration.from_pretrained(directory, dtype=torch.float32),
        AutoTokenizer.from_pretrained(directory),
        Qwen2VLImageProcessorPil.from_pretrained(directory),
    )


def configuration(tokenizer: Any) -> Any:
    """Return the miniature's Qwen3VLConfig for a tokenizer's vocabulary."""
    from transformers import Qwen3VLConfig

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens.SPECIAL_TOKENS}
    return Qwen3VLConfig(
        text_config=_text_configuration(tokenizer),
        vision_config=_vision_configuration(),
        image_token_id=ids[tokens.IMAGE_PAD],
        video_token_id=ids[tokens.VIDEO_PAD],
        vision_start_token_id=ids[tokens.VISION_START],
        vision_end_token_id=ids[tokens.VISION_END],
        tie_word_embeddings=True,
    )


def _text_configuration(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 192,
        "num_hidden_layers": LANGUAGE_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [4, 6, 6],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision_configuration() -> dict[str, Any]:
    return {
        "depth": VISION_BLOCKS,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "patch_size": PATCH_PIXELS,
        "spatial_merge_size": MERGE_SIZE,
        "temporal_patch_size": 2,
        "out_hidden_size": HIDDEN_SIZE,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [1, 3, 5],
    }


def image_processor() -> Any:
    """Return Qwen's image processor for 8-pixel patches; every image is resized to about 64 x 64 pixels."""
    from transformers import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=PATCH_PIXELS,
        merge_size=MERGE_SIZE,
        temporal_patch_size=2,
        size={"shortest_edge": 64 * 64, "longest_edge": 64 * 64},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )

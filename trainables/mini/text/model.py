"""The text miniature's architecture: transformers' Qwen2 classes with small sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainables.mini import tokenizer as tokens
from trainables.mini.model import Miniature
from trainables.mini.text import world

LANGUAGE_LAYERS = 6
HIDDEN_SIZE = 128  # every Linear reads a multiple of 64 values, as 4-bit blocks on a CPU require


def tokenizer() -> Any:
    """Build the tokenizer as that of the other miniature, from this task's words and without image tokens."""
    return tokens.build(world.sentences(), tokens.TEXT_TOKENS)


def fresh(seed: int) -> Miniature:
    """Create an untrained text miniature of about 0.8 M parameters in float32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    words = tokenizer()
    configuration = Qwen2Config(
        vocab_size=len(words),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=192,
        num_hidden_layers=LANGUAGE_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    network = Qwen2ForCausalLM(configuration)
    ends = [words.eos_token_id, words.pad_token_id]
    network.generation_config.update(do_sample=False, eos_token_id=ends, pad_token_id=words.pad_token_id)
    return Miniature(network, words, None)


def load(directory: Path) -> Miniature:
    """Load a saved text miniature, computing in float32."""
    import torch
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    network = Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return Miniature(network, AutoTokenizer.from_pretrained(directory), None)

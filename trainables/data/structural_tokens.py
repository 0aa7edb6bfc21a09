"""The tokens that structure a conversation: they end or start turns, or stand for pictures, and belong to no text.

Written inside a question or an answer, such a token ends the turn early or shows a picture that is not there. Tokens
that a model writes as part of an answer, such as boxes, tool marks and thoughts, are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# tokens of known families; they are structural wherever a tokenizer has them or a template writes them
KNOWN_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<start_of_turn>", "<end_of_turn>",
    "<bos>", "<eos>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<|system|>", "<|user|>",
    "<|assistant|>", "<|observation|>", "<|end|>", "[gMASK]", "<sop>", "<|image_pad|>", "<|video_pad|>",
    "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image|>", "<|video|>", "<start_of_image>", "<end_of_image>", "<image_soft_token>", "[IMG]",
    "[IMG_BREAK]", "[IMG_END]",
)  # fmt: skip
OF_PICTURES = re.compile(r"image|img|video|vision|audio", re.IGNORECASE)
OF_ANSWERS = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]"})


def structural_tokens(tokenizer: Any, rendered: str) -> frozenset[str]:
    """Return the structural tokens of a tokenizer, whose template renders a plain conversation as `rendered`."""
    added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
    named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    written = {token for token in (*added, *KNOWN_TOKENS) if token in rendered}
    pictures = {token for token, special in added.items() if special and OF_PICTURES.search(token)}
    known = added.keys() & set(KNOWN_TOKENS)
    return frozenset(token for token in named | written | pictures | known if token) - OF_ANSWERS


def first_within(text: str, tokens: Iterable[str]) -> str | None:
    """Return the structural token that stands first in `text`, None if there is none."""
    return min(
        (token for token in tokens if token in text), key=lambda token: (text.index(token), -len(token)), default=None
    )

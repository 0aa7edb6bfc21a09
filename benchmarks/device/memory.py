"""Predicts the memory of a training step: what is held, and what the graph saves for the backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.device.training import Member
    from trainables.data.encoding import Batch
    from trainables.model.base import Base

COPIES_OF_AN_ADAPTER = 4  # parameters, gradients and AdamW's two moments, all in float32
NORM_BYTES = 2 * 4 * 2  # a layer's two norms save their input and the normalized values in float32
FLOAT_BYTES, MASK_BYTES = 4, 1


def predicted_mb(base: Base, members: Sequence[Member], batch: Batch, layers: int) -> float:
    """Return the MB (10^6 bytes) of a step of all members in one pass, `layers` of which each member adapts.

    Below the adapters nothing is saved. Whatever a kernel takes in addition is not counted.
    """
    text: Any = base.model.config.get_text_config()
    size = base.model.dtype.itemsize
    tokens = batch.labels.numel()
    labels = batch.supervised_tokens
    held = sum(one.numel() * one.element_size() for one in (*base.model.parameters(), *base.model.buffers()))
    adapters = sum(p.numel() for one in members for _, p in one.adapter.trained())
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    attention = (text.num_attention_heads + 2 * text.num_key_value_heads) * head
    linears = 2 * text.hidden_size + text.num_attention_heads * head + text.intermediate_size
    per_token = (
        NORM_BYTES * text.hidden_size
        + (size + FLOAT_BYTES) * attention  # normalized and rotated queries and keys
        + 4 * size * text.intermediate_size  # gate, up, activation, product
        + (FLOAT_BYTES + MASK_BYTES) * linears  # inputs of LoRA after dropout, and the masks
    )
    logits = 3 * FLOAT_BYTES * labels * text.vocab_size  # in float32, their softmax and their gradients
    graph = len(members) * (layers * tokens * per_token + logits)
    return (held + COPIES_OF_AN_ADAPTER * FLOAT_BYTES * adapters + graph) / 1e6

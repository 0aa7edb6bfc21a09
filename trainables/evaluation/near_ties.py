"""Near ties: positions whose two best logits lie so close that another batch shape may order them otherwise.

A token that one pass predicts holds for passes of other shapes only if it is no near tie.
"""

from __future__ import annotations

from typing import Any

import torch

# Bounds of the change of the gap between the two best logits that another batch shape makes, as a share of the best
# logit: at least four times the largest change measured (`python -m benchmarks.evals --drift`, docs/evals.md).
DRIFT_SHARES = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.005}
INT8_DRIFT_SHARE = 0.03  # activations are rounded to 8 bits, which turns a small change into a step
MOST_SHARE = 0.01  # with a larger bound nearly every batch has a near tie, so that drafts would only cost time


def drift_share(model: Any) -> float:
    """Return the bound of `best_tokens` for a loaded model, by the dtype that it computes in and its quantization."""
    share = DRIFT_SHARES[model.get_input_embeddings().weight.dtype]
    return max(share, INT8_DRIFT_SHARE) if getattr(model, "is_loaded_in_8bit", False) else share


def drafts_pay(share: float) -> bool:
    """True if near ties are rare enough for drafts to save time."""
    return share <= MOST_SHARE


def best_tokens(logits: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most likely token of logits (..., vocabulary), and whether it is a near tie, each (...)."""
    values, tokens = logits.topk(2, dim=-1)
    best, second = values.unbind(dim=-1)
    return tokens[..., 0], best - second <= share * best.abs().clamp(min=1.0)

"""Near ties: positions whose two best logits lie so close that another batch shape may order them otherwise.

A token that one pass predicts holds for passes of other shapes only if it is no near tie.
"""

from __future__ import annotations

from typing import Any

import torch

# Largest change of the gap between the two best logits that another batch shape made, as a share of the best logit;
# each is four times what was measured (docs/evals.md).
DRIFT_SHARES = {torch.float64: 1e-6, torch.float32: 4e-5, torch.bfloat16: 0.06, torch.float16: 0.01}
INT8_DRIFT_SHARE = 0.06  # activations are rounded to 8 bits, which turns a small change into a step


def drift_share(model: Any) -> float:
    """Return the bound of `best_tokens` for a loaded model, by the dtype that it computes in and its quantization."""
    share = DRIFT_SHARES[model.get_input_embeddings().weight.dtype]
    return max(share, INT8_DRIFT_SHARE) if getattr(model, "is_loaded_in_8bit", False) else share


def best_tokens(logits: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most likely token of logits (..., vocabulary), and whether it is a near tie, each (...)."""
    values, tokens = logits.topk(2, dim=-1)
    best, second = values.unbind(dim=-1)
    return tokens[..., 0], best - second <= share * best.abs().clamp(min=1.0)

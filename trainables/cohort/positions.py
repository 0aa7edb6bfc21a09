"""Positions of the tokens of a pass, for the rows of all groups."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def text_positions(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the positions of rows of text (rows, tokens): those of packed rows are given, others count the tokens."""
    if "position_ids" in inputs:
        return inputs["position_ids"]
    # prompts are padded on the left, and padding has no positions
    return (inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)


def repeated_positions(positions: torch.Tensor, groups: int) -> torch.Tensor:
    """Repeat positions (rows, tokens) or (axes, rows, tokens) for the rows of `groups` groups."""
    return positions.repeat(*[1] * (positions.dim() - 2), groups, 1)

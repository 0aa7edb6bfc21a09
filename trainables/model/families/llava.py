"""The layout of LLaVA, which several families have: a vision tower, a projector and a decoder, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.model.families.family import Config

DECODER, TOWER, PROJECTOR = "model.language_model", "model.vision_tower", "model.multi_modal_projector"
# the published names are those of older releases of transformers
RENAMED_WEIGHTS = (
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", f"{DECODER}."),
    (r"^(model\.)?vision_tower\.(vision_model\.)?", f"{TOWER}."),
    (r"^multi_modal_projector\.", f"{PROJECTOR}."),
)


def with_defaults(config: Config, part: str, defaults: Mapping[str, Any]) -> Config:
    """Return a part of config.json, with the values of transformers' class for those that are not written there."""
    return {**defaults, **(config.get(part) or {})}


def tied_by_default(config: Config) -> bool:
    """Return `tie_word_embeddings`, which is true unless config.json says otherwise."""
    return bool(config.get("tie_word_embeddings", True))

"""Finds the modules that LLaMA-Factory adapts on a base with pictures.

There it matches parts of module names, not whole last names as PEFT does, and leaves out names that contain a forbidden
part (`llamafactory.model.model_utils.visual` and `misc`, version 0.9.6). On other bases it leaves matching to PEFT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

HEAD = "lm_head"


@dataclass(frozen=True)
class NameParts:
    """Parts of the names of a family's towers and aligner; `never` are those of modules that it never adapts."""

    aligner: tuple[str, ...]
    vision: tuple[str, ...]
    language: tuple[str, ...] = ("language_model", HEAD)
    never: tuple[str, ...] = ("patch_embed",)


QWEN2_VL = NameParts(("visual.merger",), ("visual.patch_embed", "visual.blocks"))
# with the tower thawed, the mergers of DeepStack are adapted with it: they are no part of the aligner here
QWEN3_VL = NameParts(
    ("visual.merger",), ("visual.pos_embed", "visual.patch_embed", "visual.blocks", "visual.deepstack_merger_list")
)
MISTRAL3 = NameParts(("multi_modal_projector",), ("vision_tower",))
NAME_PARTS: Mapping[str, NameParts] = {
    "qwen2_vl": QWEN2_VL, "qwen2_5_vl": QWEN2_VL, "qwen3_vl": QWEN3_VL, "mistral3": MISTRAL3,
}  # fmt: skip


def adapted_modules(
    parts: NameParts, names: Sequence[str], targets: Sequence[str] | None, frozen: Sequence[str]
) -> set[str]:
    """Return the names that LLaMA-Factory adapts; `targets` are its `lora_target`, None for `all`.

    `frozen` are the frozen towers, "language" or "vision"; the aligner is frozen.
    """
    vision = parts.vision if "vision" in frozen else ()
    language = parts.language if "language" in frozen else ()
    if targets is None:
        linears = _without(names, (HEAD, *parts.aligner, *parts.never, *vision))
        targets = sorted({name.rsplit(".", 1)[-1] for name in linears})
    left = _without(names, (*parts.aligner, *parts.never, *vision, *language))
    return {name for name in left if any(target in name for target in targets)}


def containers(names: Iterable[str], targets: Sequence[str]) -> dict[str, str]:
    """Return by target the first module that contains linears and that the target matches too: PEFT fails on it."""
    above = {name.rsplit(".", 1)[0] for name in names if "." in name}
    found = {target: sorted(name for name in above if target in name) for target in targets}
    return {target: matched[0] for target, matched in found.items() if matched}


def _without(names: Iterable[str], parts: Sequence[str]) -> list[str]:
    return [name for name in names if not any(part in name for part in parts)]

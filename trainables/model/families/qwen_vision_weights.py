"""The weights of Qwen's vision-language models beside the matrices of their blocks."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.model.families.decoder_weights import LayerWeights, decoder_weights
from trainables.model.families.family import Blocks, Config, Shapes

VISUAL = "model.visual"
WEIGHT, WITH_BIAS = ("weight",), ("weight", "bias")


@dataclass(frozen=True)
class MergerLayers:
    """The names of the norm and of the two linears of a patch merger, and the parts that every norm has."""

    norm: str
    linears: tuple[str, str]
    norm_parts: tuple[str, ...]


def vision_weights(config: Config, blocks: Blocks, layer: LayerWeights, merger: MergerLayers, out: int) -> Shapes:
    """Return the shapes of all weights but the matrices of the blocks; `out` is the width of the merged features."""
    if not blocks:
        raise ValueError("`vision_config` gives a tower without blocks")
    vision, hidden = config["vision_config"], blocks[0][0].inputs
    shapes = decoder_weights("model.language_model", config.get("text_config") or config, layer)
    patch = vision["patch_size"]
    sides = tuple(patch) if isinstance(patch, list) else (patch, patch)
    depth = vision.get("temporal_patch_size", 2)
    shapes[f"{VISUAL}.patch_embed.proj.weight"] = (hidden, vision.get("in_channels", 3), depth, *sides)
    for index, block in enumerate(blocks):
        norms = [f"{VISUAL}.blocks.{index}.{norm}.{part}" for norm in ("norm1", "norm2") for part in merger.norm_parts]
        shapes |= dict.fromkeys(norms, (hidden,)) | {f"{one.name}.bias": (one.outputs,) for one in block}
    return shapes | merger_weights(f"{VISUAL}.merger", merger, hidden, merged_width(vision, hidden), out)


def merged_width(vision: Config, hidden: int) -> int:
    """Return the width of the patches that a merger joins."""
    return hidden * vision.get("spatial_merge_size", 2) ** 2


def merger_weights(at: str, layers: MergerLayers, normed: int, merged: int, out: int) -> Shapes:
    """Return the shapes of the weights of the patch merger at `at`, whose norm is `normed` wide."""
    first, second = layers.linears
    return dict.fromkeys((f"{at}.{layers.norm}.{part}" for part in layers.norm_parts), (normed,)) | {
        f"{at}.{first}.weight": (merged, merged), f"{at}.{first}.bias": (merged,),
        f"{at}.{second}.weight": (out, merged), f"{at}.{second}.bias": (out,),
    }  # fmt: skip

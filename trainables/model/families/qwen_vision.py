"""The common parts of the vision towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

A tower processes the patches of all images of a batch as one sequence (patches, width). `cu_seqlens` holds the bounds
of the parts within which patches attend to each other. An image token is a merged square of neighbouring patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from trainables.model.families.family import (
    MULTI_TOKEN_PREDICTION,
    ROTARY_FREQUENCIES,
    SECOND_PREFIX,
    Config,
    Family,
    Inputs,
    LinearShape,
    Shapes,
    SharedForwardSteps,
    Towers,
    VisionSteps,
    decoder_layers,
    no_taps,
    not_tied,
)

if TYPE_CHECKING:
    import torch

IGNORED_WEIGHTS = (ROTARY_FREQUENCIES, MULTI_TOKEN_PREDICTION)
# the published names are those of older releases of transformers
RENAMED_WEIGHTS = (
    *SECOND_PREFIX,
    (r"^(visual|language_model)\.", r"model.\1."),
    (r"^model\.(?=(embed_tokens|layers|norm)\.)", "model.language_model."),
)
IMAGE_TOKEN_MASK = "mm_token_type_ids"  # noqa: S105


def towers(config: Config, feed_forward: Mapping[str, tuple[int, int]], hidden: int) -> Towers:
    """Return the linears of the decoder and of a vision tower whose blocks have width `hidden`.

    `feed_forward` maps the linears in the mlp of a block to their widths. Published configurations of Qwen2-VL and
    Qwen2.5-VL have the decoder's values at the top level; transformers writes them to `text_config`.
    """
    blocks = range(config["vision_config"]["depth"])
    return {
        "language": decoder_layers("model.language_model.layers", config.get("text_config") or config),
        "vision": tuple(
            (
                LinearShape(f"model.visual.blocks.{index}.attn.qkv", hidden, 3 * hidden),
                LinearShape(f"model.visual.blocks.{index}.attn.proj", hidden, hidden),
                *(LinearShape(f"model.visual.blocks.{index}.mlp.{name}", *widths)
                  for name, widths in feed_forward.items()),
            )
            for index in blocks
        ),
    }  # fmt: skip


def merger_and_patches(_: Config) -> tuple[str, ...]:
    """Return the linears outside the vision blocks of Qwen2-VL and Qwen2.5-VL."""
    return ("model.visual.patch_embed.proj", "model.visual.merger.mlp.0", "model.visual.merger.mlp.2")


def tied_at_either_level(config: Config) -> bool:
    """Return `tie_word_embeddings`, which older releases of transformers wrote to `text_config`."""
    return not_tied(config) or not_tied(config.get("text_config") or {})


def vision_family(
    model_class: str,
    towers: Callable[[Config], Towers],
    other_weights: Callable[[Config], Shapes],
    read_images: Callable[[Any, Inputs, int], tuple[torch.Tensor, ...]],
    outside: Callable[[Config], tuple[str, ...]] = merger_and_patches,
    packed_position_axes: int = 4,
    taps: Callable[[Any], Sequence[tuple[int, torch.nn.Module]]] = no_taps,
) -> Family:
    """Return a family with what all three share; their forward passes differ only in `read_images` and `taps`."""
    return Family(
        model_class=model_class,
        decoder="model.language_model",
        towers=towers,
        other_weights=other_weights,
        shared_forward=SharedForwardSteps(
            VisionSteps(read_images, as_encoder_output, repeat_block_arguments, positions, taps)
        ),
        outside=outside,
        image_processor_class="Qwen2VLImageProcessorPil",
        image_token="<|image_pad|>",  # noqa: S106 a token of the vocabulary, not a secret
        image_token_mask=IMAGE_TOKEN_MASK,
        packed_position_axes=packed_position_axes,
        is_tied=tied_at_either_level,
        renamed_weights=RENAMED_WEIGHTS,
        ignored_weights=IGNORED_WEIGHTS,
    )


def run_tower(model: Any, inputs: Inputs, groups: int) -> Any:
    """Run the vision tower on the images of a batch, once for each group."""
    pixels, grid = inputs["pixel_values"].repeat(groups, 1), inputs["image_grid_thw"].repeat(groups, 1)
    return model.model.visual(pixels, grid_thw=grid)


def as_encoder_output(features: Sequence[torch.Tensor]) -> SimpleNamespace:
    """Wrap merged and DeepStack features as transformers expects them, each as a sequence of parts."""
    merged, *deepstack = features
    return SimpleNamespace(pooler_output=(merged,), deepstack_features=[(one,) for one in deepstack])


def repeat_block_arguments(arguments: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Repeat the arguments of a block that depend on the patches: rotary embeddings and sequence bounds."""
    import torch

    ends = arguments["cu_seqlens"]
    return {
        **arguments,
        "cu_seqlens": torch.cat([ends, *(ends[1:] + ends[-1] * number for number in range(1, times))]),
        "position_embeddings": tuple(one.repeat(times, 1) for one in arguments["position_embeddings"]),
    }


def positions(model: Any, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions in time, height and width (3, rows, tokens), and their offset after the prompt (rows, 1)."""
    return model.model.get_rope_index(
        inputs["input_ids"], inputs[IMAGE_TOKEN_MASK], inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )  # fmt: skip

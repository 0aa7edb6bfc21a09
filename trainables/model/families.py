"""The towers of a model family: which linear layers each block has, from `config.json` alone.

Planning needs the shapes before any weight is loaded and without torch; `adapters.py` holds the instantiated model
against them, so a family whose classes change is found before step 1, not trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainables.errors import UserError, nearest
from trainables.io.files import FileDamaged, read_json

TowerName = Literal["language", "vision"]
TOWERS: tuple[TowerName, ...] = ("language", "vision")


@dataclass(frozen=True)
class LinearShape:
    """One linear layer by its whole module name, with its input and output width."""

    name: str
    inputs: int
    outputs: int


Blocks = tuple[tuple[LinearShape, ...], ...]


@dataclass(frozen=True)
class Family:
    """How one model family is loaded and where its towers stand; class names are those of `transformers`.

    A family of text alone has neither image processor nor image token, and no block in its vision tower.
    """

    model_class: str
    towers: Callable[[Mapping[str, Any]], dict[TowerName, Blocks]]
    image_processor_class: str | None = None
    image_token: str | None = None

    @property
    def sees(self) -> bool:
        """True when its models take pictures."""
        return self.image_processor_class is not None


def qwen3_vl_towers(config: Mapping[str, Any]) -> dict[TowerName, Blocks]:
    """List the linears of Qwen3-VL's language layers and vision blocks, first to last (mergers are no blocks)."""
    text, vision = config["text_config"], config["vision_config"]
    return {
        "language": tuple(_decoder_layer(f"model.language_model.layers.{index}", text)
                          for index in range(text["num_hidden_layers"])),
        "vision": tuple(_vision_block(f"model.visual.blocks.{index}", vision) for index in range(vision["depth"])),
    }  # fmt: skip


def decoder_towers(config: Mapping[str, Any]) -> dict[TowerName, Blocks]:
    """List the linears of a plain text decoder, first layer to last; its vision tower has no block."""
    layers = range(config["num_hidden_layers"])
    return {"language": tuple(_decoder_layer(f"model.layers.{index}", config) for index in layers), "vision": ()}


FAMILIES: dict[str, Family] = {
    "qwen3_vl": Family(
        model_class="Qwen3VLForConditionalGeneration",
        image_processor_class="Qwen2VLImageProcessorPil",
        image_token="<|image_pad|>",  # noqa: S106 a token of the vocabulary, no secret
        towers=qwen3_vl_towers,
    ),
    "qwen2": Family("Qwen2ForCausalLM", decoder_towers),
    "qwen3": Family("Qwen3ForCausalLM", decoder_towers),
    "llama": Family("LlamaForCausalLM", decoder_towers),
    "mistral": Family("MistralForCausalLM", decoder_towers),
    "gemma": Family("GemmaForCausalLM", decoder_towers),
    "gemma2": Family("Gemma2ForCausalLM", decoder_towers),
    "gemma3_text": Family("Gemma3ForCausalLM", decoder_towers),
}


def family_of(base: Path) -> tuple[Family, dict[str, Any]]:
    """Read the family and the configuration of the base directory.

    Raises:
        UserError: there is no `config.json`, no safetensors weight, or the family is unknown.
    """
    config_path = base / "config.json"
    if not config_path.is_file():
        raise UserError(
            f"a base must be a directory with config.json and safetensors weights, but {base} has no config.json",
            "pass --base DIR with a model saved by `save_pretrained`, or a snapshot downloaded from the hub",
        )
    if not any(base.glob("*.safetensors")):
        raise UserError(
            f"a base must hold its weights as *.safetensors, but {base} has none",
            "download or save the weights as safetensors; other formats can run code when they are loaded",
        )
    try:
        config = read_json(config_path)
    except FileDamaged as error:
        raise UserError(error.message, "download or save the base again") from None
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES:
        raise UserError(
            f"{config_path}: `model_type` must be a known family, but got `{model_type}`",
            nearest(model_type, FAMILIES),
        )
    return FAMILIES[model_type], config


def _decoder_layer(prefix: str, text: Mapping[str, Any]) -> tuple[LinearShape, ...]:
    hidden, feed_forward = text["hidden_size"], text["intermediate_size"]
    head_dim = text.get("head_dim") or hidden // text["num_attention_heads"]
    key_heads = text.get("num_key_value_heads") or text["num_attention_heads"]
    queries, keys = text["num_attention_heads"] * head_dim, key_heads * head_dim
    return (
        LinearShape(f"{prefix}.self_attn.q_proj", hidden, queries),
        LinearShape(f"{prefix}.self_attn.k_proj", hidden, keys),
        LinearShape(f"{prefix}.self_attn.v_proj", hidden, keys),
        LinearShape(f"{prefix}.self_attn.o_proj", queries, hidden),
        LinearShape(f"{prefix}.mlp.gate_proj", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.up_proj", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.down_proj", feed_forward, hidden),
    )


def _vision_block(prefix: str, vision: Mapping[str, Any]) -> tuple[LinearShape, ...]:
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    return (
        LinearShape(f"{prefix}.attn.qkv", hidden, 3 * hidden),
        LinearShape(f"{prefix}.attn.proj", hidden, hidden),
        LinearShape(f"{prefix}.mlp.linear_fc1", hidden, feed_forward),
        LinearShape(f"{prefix}.mlp.linear_fc2", feed_forward, hidden),
    )

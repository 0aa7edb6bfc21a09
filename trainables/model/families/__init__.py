"""Model families: one file for each, and the table of those that can be trained.

The file of a family describes the linears in its blocks, the layers outside the blocks, how images are processed, and
how trials share a forward pass. It needs only `config.json` and no torch. `model/lora.py` compares the linears with the
instantiated model, so a changed transformers class is detected before the first step.

- `decoder_weights`: The weights of a decoder beside the matrices of its layers: embedding, head, norms and biases.
- `experts`: Decoders with a mixture of experts: LoRA goes on the linears of attention, and only on request on the
  experts.
- `family`: The description of a model family: plain values and functions, importable without torch.
- `fused`: Fused projections: several linears of a block that have the same input, held and adapted as one.
- `mistral3`: Mistral Small 3.1 and later, Magistral and Ministral 3: trained as text.
- `phi3`: Phi-3 and Phi-4: decoders whose queries, keys and values are one linear, as are gate and up.
- `gemma3`: Gemma 3 with pictures: a SigLIP tower, and tokens of one picture that attend to each other in both
  directions.
- `gemma4`: Gemma 4, dense: layers with full attention have wider heads, and the last layers read the keys of earlier
  ones.
- `gemma4_towers`: The vision and audio towers of Gemma 4: the linears of the vision blocks, and the weights of both.
- `internvl`: InternVL in transformers' own layout (`-hf`): a picture is cut into tiles, and each becomes as many
  tokens.
- `llava`: The layout of LLaVA, which several families have: a vision tower, a projector and a decoder, side by side.
- `qwen2_5_vl`: Qwen2.5-VL: most vision blocks use window attention, for which the tower reorders the patches; no
  DeepStack.
- `qwen2_vl`: Qwen2-VL: all patches of an image attend to each other; no DeepStack.
- `qwen3_5`: Qwen3.5: most decoder layers are linear attention, which keeps a state in place of keys and values.
- `mixtral`: Mixtral: attention of Mistral and a mixture of experts; published files call its three matrices w1, w3 and
  w2.
- `qwen3_moe`: Qwen3-MoE: attention of Qwen3 and a mixture of experts; published files hold every expert by itself.
- `qwen3_vl`: Qwen3-VL: all patches of an image attend to each other; DeepStack adds features to the first language
  layers.
- `qwen3_vl_moe`: Qwen3-VL-MoE: the vision tower of Qwen3-VL before a mixture of experts; published experts are
  transposed.
- `qwen_vision`: The common parts of the vision towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.
- `qwen_vision_weights`: The weights of Qwen's vision-language models beside the matrices of their blocks.
- `siglip`: The SigLIP vision encoder, which several families put before their decoder: its blocks and its weights.
- `smolvlm`: SmolVLM and Idefics 3: a picture is cut into tiles of one size, each of which becomes as many tokens, and
  one more.
- `text`: Text-only decoders: Qwen2, Qwen3, Llama, SmolLM3, Mistral, Ministral, Gemma and GLM-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import UserError, named, quoted
from trainables.io.files import MOST_FOREIGN_BYTES, FileDamaged, read_json
from trainables.model.families import text
from trainables.model.families.family import TOWERS, Blocks, Family, LinearShape, TowerName
from trainables.model.families.gemma3 import GEMMA3
from trainables.model.families.gemma4 import GEMMA4, GEMMA4_TEXT
from trainables.model.families.internvl import INTERNVL
from trainables.model.families.mistral3 import MISTRAL3
from trainables.model.families.mixtral import MIXTRAL
from trainables.model.families.phi3 import PHI3
from trainables.model.families.qwen2_5_vl import QWEN2_5_VL
from trainables.model.families.qwen2_vl import QWEN2_VL
from trainables.model.families.qwen3_5 import QWEN3_5, QWEN3_5_TEXT
from trainables.model.families.qwen3_moe import QWEN3_MOE
from trainables.model.families.qwen3_vl import QWEN3_VL
from trainables.model.families.qwen3_vl_moe import QWEN3_VL_MOE
from trainables.model.families.smolvlm import IDEFICS3, SMOLVLM
from trainables.model.foreign_code import check_names_no_kernel

__all__ = [
    "FAMILIES", "TOWERS", "Blocks", "Family", "LinearShape", "TowerName", "family_of", "patches_per_token",
    "read_configuration",
]  # fmt: skip

# by `model_type` in config.json
FAMILIES: Mapping[str, Family] = {
    "qwen3_vl": QWEN3_VL,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen2_vl": QWEN2_VL,
    "qwen2": text.QWEN2,
    "qwen3": text.QWEN3,
    "llama": text.LLAMA,
    "smollm3": text.SMOLLM3,
    "phi3": PHI3,
    "mistral": text.MISTRAL,
    "ministral": text.MINISTRAL,
    "ministral3": text.MINISTRAL3,
    "mistral3": MISTRAL3,
    "glm": text.GLM,
    "glm4": text.GLM4,
    "gemma": text.GEMMA,
    "gemma2": text.GEMMA2,
    "gemma3_text": text.GEMMA3_TEXT,
    "gemma3": GEMMA3,
    "gemma4": GEMMA4,
    "gemma4_text": GEMMA4_TEXT,
    "smolvlm": SMOLVLM,
    "idefics3": IDEFICS3,
    "internvl": INTERNVL,
    "qwen3_5": QWEN3_5,
    "qwen3_5_text": QWEN3_5_TEXT,
    "qwen3_moe": QWEN3_MOE,
    "mixtral": MIXTRAL,
    "qwen3_vl_moe": QWEN3_VL_MOE,
}


def family_of(base: Path) -> tuple[Family, dict[str, Any]]:
    """Return the family and the configuration of a base directory.

    Raises:
        UserError: `config.json` or safetensors weights are missing, the family is unknown, or code is to be downloaded.
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
    return read_configuration(config_path)


def patches_per_token(config: Mapping[str, Any]) -> int:
    """Return how many patches of the vision tower become one token of a picture, by a configuration that was read."""
    return FAMILIES[config["model_type"]].patches_per_token(config)


def read_configuration(config_path: Path) -> tuple[Family, dict[str, Any]]:
    """Return the family and the configuration in a config.json, with or without weights beside it.

    Raises:
        UserError: it is damaged, the family is unknown, or code is to be downloaded.
    """
    try:
        config = read_json(config_path, MOST_FOREIGN_BYTES)
    except FileDamaged as error:
        raise UserError(error.message, "download or save the base again") from None
    if not isinstance(config, dict):
        raise UserError(f"{config_path}: it must be a JSON object, but got {quoted(config)}",
                        "download or save the base again")  # fmt: skip
    check_names_no_kernel(config, config_path)
    return _known_family(config, config_path), config


def _known_family(config: Mapping[str, Any], path: Path) -> Family:
    found = config.get("model_type")
    family = FAMILIES.get(found) if isinstance(found, str) else None
    if family is None:
        got = f"got `{named(str(found))}`" if "model_type" in config else "there is none"
        raise UserError(
            f"{path}: `model_type` must be a known family, but {got}",
            f"the known families are {', '.join(FAMILIES)}",
        )
    text = config.get("text_config")
    decoder = text.get("model_type") if isinstance(text, Mapping) else None
    if family.decoder_types and decoder not in (None, *family.decoder_types):
        raise UserError(
            f"{path}: `text_config.model_type` of a {found} must be one of {', '.join(family.decoder_types)}, but got "
            f"`{named(str(decoder))}`",
            f"the known families are {', '.join(FAMILIES)}; no other decoder of a {found} can be trained",
        )
    return family

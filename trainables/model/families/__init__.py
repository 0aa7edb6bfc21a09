"""Model families: one file for each, and the table of those that can be trained.

The file of a family describes the linears in its blocks, the layers outside the blocks, how images are processed, and
how trials share a forward pass. It needs only `config.json` and no torch. `model/lora.py` compares the linears with the
instantiated model, so a changed transformers class is detected before the first step.

- `decoder_weights`: The weights of a decoder beside the matrices of its layers: embedding, head, norms and biases.
- `experts`: Decoders with a mixture of experts: LoRA goes on the linears of attention, and only on request on the
  experts.
- `family`: The description of a model family: plain values and functions, importable without torch.
- `mixtral`: Mixtral: attention of Mistral and a mixture of experts; published files call its three matrices w1, w3 and
  w2.
- `qwen2_5_vl`: Qwen2.5-VL: most vision blocks use window attention, for which the tower reorders the patches; no
  DeepStack.
- `qwen2_vl`: Qwen2-VL: all patches of an image attend to each other; no DeepStack.
- `qwen3_moe`: Qwen3-MoE: attention of Qwen3 and a mixture of experts; published files hold every expert by itself.
- `qwen3_vl`: Qwen3-VL: all patches of an image attend to each other; DeepStack adds features to the first language
  layers.
- `qwen3_vl_moe`: Qwen3-VL-MoE: the vision tower of Qwen3-VL before a mixture of experts; published experts are
  transposed.
- `qwen_vision`: The common parts of the vision towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.
- `qwen_vision_weights`: The weights of Qwen's vision-language models beside the matrices of their blocks.
- `text`: Text-only decoders: Qwen2, Qwen3, Llama, Mistral and Gemma.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import UserError, quoted
from trainables.io.files import MOST_FOREIGN_BYTES, FileDamaged, read_json
from trainables.model.families import text
from trainables.model.families.family import TOWERS, Blocks, Family, LinearShape, TowerName
from trainables.model.families.mixtral import MIXTRAL
from trainables.model.families.qwen2_5_vl import QWEN2_5_VL
from trainables.model.families.qwen2_vl import QWEN2_VL
from trainables.model.families.qwen3_moe import QWEN3_MOE
from trainables.model.families.qwen3_vl import QWEN3_VL
from trainables.model.families.qwen3_vl_moe import QWEN3_VL_MOE
from trainables.model.foreign_code import check_names_no_kernel

__all__ = ["FAMILIES", "TOWERS", "Blocks", "Family", "LinearShape", "TowerName", "family_of", "read_configuration"]

# by `model_type` in config.json
FAMILIES: Mapping[str, Family] = {
    "qwen3_vl": QWEN3_VL,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen2_vl": QWEN2_VL,
    "qwen2": text.QWEN2,
    "qwen3": text.QWEN3,
    "llama": text.LLAMA,
    "mistral": text.MISTRAL,
    "gemma": text.GEMMA,
    "gemma2": text.GEMMA2,
    "gemma3_text": text.GEMMA3_TEXT,
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
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES:
        raise UserError(
            f"{config_path}: `model_type` must be a known family, but got `{model_type}`",
            f"the known families are {', '.join(FAMILIES)}",
        )
    return FAMILIES[model_type], config

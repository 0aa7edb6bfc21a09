"""Checks that a directory holds an adapter in safetensors, and says what it holds otherwise."""

from __future__ import annotations

from pathlib import Path

from trainables.errors import UserError
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

PICKLED_WEIGHTS = "adapter_model.bin"
ADAPTER_HINT = "pass a trial's `best/`, one of its `checkpoints/step-N/`, or any LoRA directory that PEFT saved"
MODEL_HINT = "a merged or whole model is a base: pass it as --base, and train a new adapter on it"
# adapters in formats of other tools, by the file that holds their weights
OTHER_FORMATS = {"adapters.safetensors": "MLX", "adapters.npz": "MLX", "pytorch_lora_weights.safetensors": "diffusers",
                 "adapter_model.gguf": "llama.cpp", "lora.safetensors": "another tool"}  # fmt: skip


def check_is_adapter(directory: Path) -> None:
    """Check that the directory holds an adapter in safetensors.

    Raises:
        UserError: names the missing files, and what the directory holds instead.
    """
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (directory / name).is_file()]
    if missing:
        must = f"{directory}: an adapter directory must hold {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"
        if not directory.is_dir():
            raise UserError(f"{must}, but it is no directory", _hint_for_file(directory))
        found, hint = _instead(directory, missing)
        raise UserError(f"{must}, but it has no {' and no '.join(missing)}{found}", hint)


def nested_adapters(directory: Path) -> tuple[str, ...]:
    """Return the names of the subdirectories that hold an adapter's configuration."""
    return tuple(path.parent.name for path in sorted(directory.glob(f"*/{ADAPTER_CONFIG}")))


def _instead(directory: Path, missing: list[str]) -> tuple[str, str]:
    """Return what the directory holds instead of an adapter, and a hint."""
    if (directory / PICKLED_WEIGHTS).is_file():
        return (
            f"; {PICKLED_WEIGHTS} is a pickle, which can run code when it is loaded",
            "load it with PEFT where it was trained and save it again: `model.save_pretrained(DIR)` writes safetensors",
        )
    for name, tool in OTHER_FORMATS.items():
        if (directory / name).is_file():
            return f"; {name} is an adapter in the format of {tool}", "save or convert it with PEFT"
    nested = nested_adapters(directory)
    if nested:
        return f"; it holds the adapters {', '.join(nested)}", f"there is an adapter in {directory / nested[0]}"
    model = sorted(
        path.name for pattern in ("model*.safetensors", "pytorch_model*.bin") for path in directory.glob(pattern)
    )
    if model:
        left = "" if ADAPTER_CONFIG in missing else f"; {ADAPTER_CONFIG} was left over"
        return f"; {model[0]} holds a whole model{left}", MODEL_HINT
    return "", ADAPTER_HINT if ADAPTER_CONFIG in missing else "save it with safetensors: `model.save_pretrained(DIR)`"


def _hint_for_file(path: Path) -> str:
    return f"pass the directory, {path.parent}" if path.is_file() else "check the path"

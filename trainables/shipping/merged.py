"""Merges an adapter into its base, and writes the merged model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError
from trainables.model.base_files import CONFIGURATION, WEIGHTS, deciding_files
from trainables.model.stored_base import read_base
from trainables.spec import ComputeDtype

if TYPE_CHECKING:
    from peft import PeftModel

DTYPES: tuple[ComputeDtype, ...] = ("float32", "bfloat16", "float16")


def check_can_merge(base: Path) -> None:
    """Refuse to merge into weights that are stored quantized, which would lose most of a small update.

    Raises:
        UserError: the base is stored quantized, or cannot be read.
    """
    stored = read_base(base)
    if stored.quantization != "none":
        raise UserError(f"--merge needs a base that is stored as floats, but {base.name} is stored as "
                        f"{stored.quantization}", "ship the adapter without --merge")  # fmt: skip


def stored_dtype(base: Path) -> ComputeDtype:
    """Return the type that config.json states for the weights, `auto` where it states none."""
    config: dict[str, Any] = dict(read_base(base).config)
    stated = config.get("dtype") or config.get("torch_dtype")
    for dtype in DTYPES:
        if dtype == stated:
            return dtype
    return "auto"


def write_merged(model: PeftModel, base: Path, out: Path) -> None:
    """Merge an adapter (W + scale x B A) and write the model, with the tokenizer and processor files of its base."""
    merged: Any = model.merge_and_unload()
    merged.save_pretrained(str(out))
    weights = {path.name for pattern in (*WEIGHTS, *CONFIGURATION) for path in base.glob(pattern)}
    for name, path in deciding_files(base).items():
        if name not in weights:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name)

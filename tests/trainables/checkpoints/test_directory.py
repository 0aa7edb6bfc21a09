"""Tests what is said of directories that hold no adapter in safetensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.checkpoints.adapter import adapter_source
from trainables.checkpoints.directory import check_is_adapter
from trainables.errors import UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("names", "expected", "hint"),
    [
        ([], f"it has no {CONFIG} and no {WEIGHTS}", "or any LoRA directory that PEFT saved"),
        ([CONFIG], f"it has no {WEIGHTS}", "save it with safetensors"),
        ([CONFIG, "adapter_model.bin"], "adapter_model.bin is a pickle, which can run code", "save it again"),
        (["config.json", "model.safetensors"], "model.safetensors holds a whole model", "pass it as --base"),
        (
            ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            "model-00001-of-00002.safetensors holds a whole model",
            "pass it as --base",
        ),
        ([CONFIG, "config.json", "model.safetensors"], f"a whole model; {CONFIG} was left over", "pass it as --base"),
        (["pytorch_model.bin"], "pytorch_model.bin holds a whole model", "pass it as --base"),
        ([CONFIG, "adapters.safetensors"], "is an adapter in the format of MLX", "convert it with PEFT"),
        (["pytorch_lora_weights.safetensors"], "is an adapter in the format of diffusers", "convert it with PEFT"),
        ([f"first/{CONFIG}", f"second/{CONFIG}"], "it holds the adapters first, second", "there is an adapter in"),
    ],
)
def test_a_directory_without_an_adapter_is_described(
    names: list[str], expected: str, hint: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for check in (check_is_adapter, adapter_source):
        with pytest.raises(UserError) as error:
            check(tmp_path)
        assert f"{tmp_path}: an adapter directory must hold {CONFIG} and {WEIGHTS}, but" in error.value.message
        assert expected in error.value.message and hint in str(error.value.hint)


def test_for_a_file_the_hint_is_its_directory(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_text("")
    with pytest.raises(UserError, match=f"it is no directory\nhint: pass the directory, {tmp_path}"):
        check_is_adapter(tmp_path / WEIGHTS)

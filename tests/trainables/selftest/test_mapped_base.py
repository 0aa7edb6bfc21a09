from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from trainables.mini import BASE_DIRECTORY
from trainables.model.base import Base, load_base
from trainables.selftest.mapped_base import map_weights
from trainables.spec import ComputeDtype, Quantization

CPU = torch.device("cpu")
IDS = torch.arange(40)[None] + 5


@pytest.fixture
def stored_in_bfloat16(tmp_path: Path) -> Path:
    """Save the miniature in bfloat16, in two files, next to its tokenizer."""
    base = load_base(BASE_DIRECTORY, "none", "bfloat16", CPU)
    base.model.save_pretrained(tmp_path, max_shard_size="3MB")
    for file in BASE_DIRECTORY.iterdir():
        if file.is_file() and not file.name.startswith(("model", "config")):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def logits(base: Base) -> torch.Tensor:
    with torch.no_grad():
        return base.model(input_ids=IDS).logits


def mapped_files() -> Iterator[str]:
    """Name the files that are mapped into this process."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(".safetensors"):
            yield line.split(maxsplit=5)[5]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_a_base_that_uses_its_files_computes_the_same(
    stored_in_bfloat16: Path, quantization: Quantization, dtype: ComputeDtype
) -> None:
    base = load_base(stored_in_bfloat16, quantization, dtype, CPU)
    before = logits(base)
    linears = sum(len(block) for blocks in base.towers.values() for block in blocks)
    assert map_weights(base) == (linears if quantization == "none" else 0) + 1  # and the tied embedding
    assert torch.equal(logits(base), before)
    assert torch.equal(logits(base), before), "a second use converts again"
    assert {Path(one).parent for one in mapped_files()} >= {stored_in_bfloat16}
    weight = base.decoder.embed_tokens.weight
    assert weight.dtype is torch.bfloat16, "between uses there is no copy in the dtype of the base"
    assert base.model.lm_head.weight is weight


def test_an_adapter_on_a_base_that_uses_its_files_computes_the_same(stored_in_bfloat16: Path) -> None:
    config = LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|down_proj)", init_lora_weights=False)
    found = []
    for maps in (False, True):
        base = load_base(stored_in_bfloat16, "none", "float32", CPU)
        if maps:
            map_weights(base)
        torch.manual_seed(0)
        adapted = get_peft_model(base.model, config).eval()
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.data = torch.full_like(parameter, 0.01, dtype=torch.float32)
            found.append(adapted(input_ids=IDS).logits)
    assert torch.equal(*found)


def test_a_weight_that_is_not_what_the_file_holds_stays_a_copy(stored_in_bfloat16: Path) -> None:
    base = load_base(stored_in_bfloat16, "none", "float32", CPU)
    linear = base.model.get_submodule(base.towers["language"][0][0].name)
    with torch.no_grad():
        linear.weight[0, 0] += 1
    whole = sum(len(block) for blocks in base.towers.values() for block in blocks) + 1
    before = logits(base)
    assert map_weights(base) == whole - 1
    assert torch.equal(logits(base), before) and linear.weight.dtype is torch.float32


def test_a_failed_use_leaves_the_file_in_place(stored_in_bfloat16: Path) -> None:
    base = load_base(stored_in_bfloat16, "none", "float32", CPU)
    map_weights(base)
    linear = base.model.get_submodule(base.towers["language"][0][0].name)
    with pytest.raises(RuntimeError):
        linear(torch.zeros(1, linear.in_features + 1))
    assert linear.weight.dtype is torch.bfloat16

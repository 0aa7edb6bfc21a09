"""Bases that are stored quantized: one is accepted as what it is stored in, and refused as anything else."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from damaged_bases import Weights, added, change_config, change_weights, copied, without

from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY as PICTURES
from trainables.mini.text import BASE_DIRECTORY as TEXT
from trainables.model.base import load_base
from trainables.model.families import family_of
from trainables.model.loading import check_loaded, load_model
from trainables.model.quantization import QUANTIZATION_TABLE, quantization_config
from trainables.model.stored_base import StoredBase, check_quantization, read_base
from trainables.spec import QUANTIZATIONS, Quantization

CPU = torch.device("cpu")
STORED: tuple[Quantization, ...] = ("int8", "fp4", "nf4", "nf4-double")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Quantization, Path]:
    """Save the text miniature in every quantization, as transformers does."""
    at, found = tmp_path_factory.mktemp("stored"), {}
    for quantization in STORED:
        found[quantization] = saved(TEXT, at / quantization, quantization_config(quantization, torch.float32))
    return found


def saved(base: Path, directory: Path, config: Any) -> Path:
    shutil.copytree(base, directory)
    model_class = getattr(transformers, family_of(base)[0].model_class)
    model = model_class.from_pretrained(base, quantization_config=config, dtype=torch.float32)
    model.save_pretrained(directory)
    return directory


def refusal(base: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_base(base)
    assert "the base that it was made from" in (caught.value.hint or "")
    return caught.value.message


@pytest.mark.parametrize("asked", QUANTIZATIONS)
@pytest.mark.parametrize("held", STORED)
def test_a_base_is_loaded_only_in_the_quantization_it_is_stored_in(
    held: Quantization, asked: Quantization, stored: Mapping[Quantization, Path]
) -> None:
    assert read_base(stored[held]).quantization == held
    if asked == held:
        load_base(stored[held], asked, "float32", CPU)
        return
    with pytest.raises(UserError) as caught:
        load_base(stored[held], asked, "float32", CPU)
    assert f"is stored in {held} and {asked} is asked for" in caught.value.message
    assert f"ask for {held}" in (caught.value.hint or "")


@pytest.mark.parametrize("quantization", STORED)
def test_a_stored_base_computes_what_a_base_quantized_when_loaded_does(
    quantization: Quantization, stored: Mapping[Quantization, Path]
) -> None:
    ids = torch.arange(5, 25)[None]
    one, other = (load_base(path, quantization, "float32", CPU).model(input_ids=ids).logits
                  for path in (stored[quantization], TEXT))  # fmt: skip
    assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stored_base_computes_in_the_dtype_that_is_asked_for(
    dtype: Any, stored: Mapping[Quantization, Path], tmp_path: Path
) -> None:
    values = json.loads((stored["nf4"] / "config.json").read_text())["quantization_config"]
    values["bnb_4bit_compute_dtype"] = "float16"
    change_config(base := copied(stored["nf4"], tmp_path), quantization_config=values)
    model = load_base(base, "nf4", dtype, CPU).model
    layer = model.model.layers[0].mlp.up_proj
    assert layer.compute_dtype is getattr(torch, dtype)
    assert layer.weight.quant_state.dtype is getattr(torch, dtype), "the backward dequantizes to the dtype of the state"


def test_a_stored_base_with_pictures_is_read_as_well(tmp_path: Path) -> None:
    base = saved(PICTURES, tmp_path / "base", quantization_config("nf4-double", torch.float32))
    assert read_base(base).quantization == "nf4-double"


# ---------------------------------------------------------------- stored in another way
def declared(**changes: Any) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        values = json.loads((base / "config.json").read_text())["quantization_config"]
        change_config(base, quantization_config={**values, **changes})

    return change


def weights(change: Callable[[Weights], Weights]) -> Callable[[Path], None]:
    return lambda base: change_weights(base, change)


def floats(base: Path) -> None:
    shutil.copy(TEXT / "model.safetensors", base)


def other_blocks(tensors: Weights) -> Weights:
    name = "model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4"
    values = {**json.loads(bytes(tensors[name].tolist())), "blocksize": 128}
    return {**tensors, name: torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)}


def cut_weight(tensors: Weights) -> Weights:
    name = "model.layers.0.mlp.up_proj.weight"
    return {**tensors, name: tensors[name][:-1]}


MANGLED: dict[str, tuple[Callable[[Path], None], str]] = {
    "declared as another kind": (declared(bnb_4bit_quant_type="fp4"), "is stored as fp4 and nf4"),
    "declared as double": (declared(bnb_4bit_use_double_quant=True), "is stored as nf4 and nf4-double"),
    "declared as int8": (declared(load_in_4bit=False, load_in_8bit=True), "is stored as int8 and nf4"),
    "declared in another storage": (declared(bnb_4bit_quant_storage="bfloat16"), "in 4 bits (nf4, stored as bfloat16)"),
    "not declared": (lambda base: change_config(base, quantization_config=None), "nf4 weights that config.json"),
    "floats declared as nf4": (floats, "holds floats where config.json declares nf4"),
    "in other blocks": (weights(other_blocks), "is stored as nf4 and nf4 in blocks of 128"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MANGLED)
def test_weights_and_configuration_that_declare_different_quantizations_are_refused(
    fault: str, stored: Mapping[Quantization, Path], tmp_path: Path
) -> None:
    MANGLED[fault][0](base := copied(stored["nf4"], tmp_path))
    assert MANGLED[fault][1] in refusal(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layers.0.mlp.up_proj.weight.absmax"), "`model.layers.0.mlp.up_proj.weight.absmax` is missing"),
        (cut_weight, "must hold [192, 128] values in 4 bits, but it is U8"),
    ],
)
def test_a_weight_in_4_bits_that_is_incomplete_is_refused(
    change: Callable[[Weights], Weights], message: str, stored: Mapping[Quantization, Path], tmp_path: Path
) -> None:
    change_weights(base := copied(stored["nf4"], tmp_path), change)
    with pytest.raises(UserError, match="4 bits") as caught:
        read_base(base)
    assert message in caught.value.message


def test_a_base_with_some_linears_left_unquantized_is_refused(tmp_path: Path) -> None:
    config = quantization_config("nf4", torch.float32)
    assert config is not None
    config.llm_int8_skip_modules = ["lm_head", "model.layers.1.mlp.up_proj"]
    assert "is stored in nf4 but for `model.layers.1.mlp.up_proj.weight`" in refusal(
        saved(TEXT, tmp_path / "b", config)
    )


def test_int8_with_another_threshold_is_refused(stored: Mapping[Quantization, Path], tmp_path: Path) -> None:
    declared(llm_int8_threshold=3.0)(base := copied(stored["int8"], tmp_path))
    assert "in 8 bits (outliers above 3.0)" in refusal(base)


PACKED = torch.ones(2, 2, dtype=torch.int32)
OTHER_TOOLS: dict[str, tuple[dict[str, Any] | None, dict[str, torch.Tensor], str]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4}, {"qweight": PACKED}, "is stored as gptq"),
    "awq": ({"quant_method": "awq", "bits": 4}, {"qweight": PACKED}, "is stored as awq"),
    "fp8": ({"quant_method": "fp8"}, {"weight": torch.ones(192, 128).to(torch.float8_e4m3fn)}, "is stored as fp8"),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors"}, {"weight_packed": PACKED}, "compressed-tensors"),
    "unknown to transformers": ({"quant_method": "new"}, {}, "is stored as new"),
    "without a method": ({"bits": 4}, {}, "an unnamed method"),
    "gptq, not declared": (None, {"qweight": PACKED}, "GPTQ or AWQ"),
    "8-bit floats, not declared": (None, {"weight": torch.ones(192, 128).to(torch.float8_e4m3fn)}, "F8_E4M3"),
    "integers, not declared": (None, {"weight": torch.ones(192, 128, dtype=torch.int8)}, "I8"),
}  # fmt: skip


@pytest.mark.parametrize("tool", OTHER_TOOLS)
def test_what_other_methods_store_is_refused_by_its_name(tool: str, tmp_path: Path) -> None:
    values, tensors, message = OTHER_TOOLS[tool]
    key = "compression_config" if tool == "compressed-tensors" else "quantization_config"
    change_config(base := copied(TEXT, tmp_path), **{key: values})
    change_weights(base, added({f"model.layers.0.mlp.up_proj.{name}": one for name, one in tensors.items()}))
    assert message in refusal(base)


def test_a_quantization_declared_for_the_decoder_alone_is_seen(tmp_path: Path) -> None:
    base = copied(PICTURES, tmp_path)
    text = json.loads((base / "config.json").read_text())["text_config"]
    change_config(base, text_config={**text, "quantization_config": {"quant_method": "gptq"}})
    assert "is stored as gptq" in refusal(base)


# ---------------------------------------------------------------- what was loaded
@pytest.mark.parametrize("loaded", QUANTIZATIONS)
def test_a_model_loaded_in_another_quantization_is_seen(loaded: Quantization) -> None:
    base = read_base(TEXT)
    model = load_model(base, loaded, torch.float32, CPU)
    for asked in QUANTIZATIONS:
        if asked == loaded:
            check_loaded(base, model, asked, torch.float32)
            continue
        with pytest.raises(UserError, match=f"must be loaded in {asked}, but `model.layers.0.self_attn.q_proj`"):
            check_loaded(base, model, asked, torch.float32)


@pytest.mark.parametrize("quantization", [name for name, facts in QUANTIZATION_TABLE.items() if facts.bits != 8])
def test_a_model_that_computes_in_another_dtype_is_seen(quantization: Quantization) -> None:
    base = read_base(TEXT)
    with pytest.raises(UserError, match="every linear of the towers"):
        check_loaded(base, load_model(base, quantization, torch.bfloat16, CPU), quantization, torch.float32)


def test_one_linear_of_another_class_is_seen() -> None:
    base = read_base(TEXT)
    model = load_model(base, "nf4", torch.float32, CPU)
    model.model.layers[3].mlp.down_proj = torch.nn.Linear(192, 128)
    with pytest.raises(UserError, match=r"but `model\.layers\.3\.mlp\.down_proj` of .* is not"):
        check_loaded(base, model, "nf4", torch.float32)


def test_an_adapter_that_transformers_attached_is_seen() -> None:
    from peft import LoraConfig

    base = read_base(TEXT)
    model = load_model(base, "none", torch.float32, CPU)
    model.add_adapter(LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UserError, match="but transformers put one on"):
        check_loaded(base, model, "none", torch.float32)


@pytest.mark.parametrize("silence", ["nothing", "its logger", "all loggers"])
def test_too_little_memory_while_weights_are_quantized_is_told_as_such(
    silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes.nn.modules import Params4bit
    from transformers.modeling_utils import logger

    def no_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Params4bit, "_quantize", no_memory)
    monkeypatch.setattr(logger, "disabled", silence == "its logger")  # as `logging.config.fileConfig` leaves loggers
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL if silence == "all loggers" else 0)
    with pytest.raises(torch.OutOfMemoryError):
        load_model(read_base(TEXT), "nf4", torch.float32, CPU)
    assert logger.disabled == (silence == "its logger")
    assert logging.root.manager.disable == (logging.CRITICAL if silence == "all loggers" else 0)


def test_a_base_stored_as_floats_is_available_in_every_quantization() -> None:
    base: StoredBase = read_base(TEXT)
    for quantization in QUANTIZATIONS:
        check_quantization(base, quantization)

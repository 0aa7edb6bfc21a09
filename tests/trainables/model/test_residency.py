from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.model import residency
from trainables.model.base import Base, load_base
from trainables.model.checksums import base_checksums, base_megabytes
from trainables.model.residency import (
    MAX_SHARE_OF_FREE_MEMORY,
    WeightBytes,
    check_residency,
    dequantized,
    four_bit_layers,
    free_bytes,
    residency_choice,
    resolve,
    weight_bytes,
)
from trainables.spec import ComputeDtype, Quantization

CPU = torch.device("cpu")
ROOMY, FULL = 2**40, 0
WEIGHTS = WeightBytes(quantized=10, dequantized=50)


def test_auto_dequantizes_only_four_bits_and_only_where_they_fit() -> None:
    assert resolve("auto", "nf4", WEIGHTS, ROOMY) == "dequantized"
    assert resolve("auto", "nf4", WEIGHTS, FULL) == "quantized"
    assert resolve("auto", "nf4", WEIGHTS, int(40 / MAX_SHARE_OF_FREE_MEMORY)) == "dequantized"
    assert resolve("auto", "nf4", WEIGHTS, int(40 / MAX_SHARE_OF_FREE_MEMORY) - 1) == "quantized"
    assert resolve("auto", "int8", WEIGHTS, ROOMY) == "quantized"
    assert resolve("auto", "none", WEIGHTS, ROOMY) == "unquantized"
    assert resolve("quantized", "fp4", WEIGHTS, ROOMY) == "quantized"
    assert resolve("dequantized", "nf4-double", WEIGHTS, FULL) == "dequantized"


def test_int8_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="a trial asks for int8, whose products are not those of its dequantized"):
        check_residency("dequantized", ("none", "nf4", "int8"))
    check_residency("dequantized", ("none", "nf4", "fp4"))
    check_residency("auto", ("int8",))
    with pytest.raises(UserError, match="int8"):
        load_base(BASE_DIRECTORY, "int8", "float32", CPU, "dequantized")


def test_a_choice_is_read_by_its_name() -> None:
    assert [residency_choice(one) for one in ("", "auto", "quantized")] == ["auto", "auto", "quantized"]
    with pytest.raises(
        UserError, match="--resident must be one of auto, quantized, dequantized, but got `dequantised`"
    ):
        residency_choice("dequantised")


@pytest.mark.parametrize("quantization", ["nf4", "nf4-double", "fp4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dequantized_weights_give_equal_bits(quantization: Quantization, dtype: ComputeDtype) -> None:
    bases = [load_base(BASE_DIRECTORY, quantization, dtype, CPU, one) for one in ("quantized", "dequantized")]  # type: ignore[arg-type]
    assert [one.residency for one in bases] == ["quantized", "dequantized"]
    assert four_bit_layers(bases[0].model) and not four_bit_layers(bases[1].model)
    assert bases[0].megabytes == bases[1].megabytes < base_megabytes(bases[1].model) / 2
    for one, other in zip(*(_values(base) for base in bases), strict=True):
        assert torch.equal(one, other)


def test_a_layer_that_computes_in_another_dtype_than_it_was_stored_in_gives_equal_bits() -> None:
    """bitsandbytes dequantizes to the dtype of the state in the backward: a base stored in bfloat16 keeps that."""
    base = load_base(BASE_DIRECTORY, "nf4", "bfloat16", CPU)
    layer: Any = next(iter(four_bit_layers(base.model).values()))
    assert layer.weight.quant_state.dtype is torch.bfloat16
    inputs = torch.randn(5, layer.in_features, requires_grad=True)
    layer.compute_dtype = torch.float32
    layer.weight.quant_state.dtype = torch.float32  # as `loading` sets it for a stored base
    plain = dequantized(layer, torch.float32)
    gradients = [torch.autograd.grad(one(inputs).square().sum(), inputs)[0] for one in (layer, plain)]
    assert torch.equal(*gradients)
    layer.weight.quant_state.dtype = torch.bfloat16
    rounded = torch.autograd.grad(layer(inputs).square().sum(), inputs)[0]
    assert not torch.equal(rounded, gradients[1]), "without it, the backward multiplies by rounded weights"


def test_biases_and_names_stay() -> None:
    held, plain = (load_base(BASE_DIRECTORY, "nf4", "float32", CPU, one) for one in ("quantized", "dequantized"))  # type: ignore[arg-type]
    assert set(dict(held.model.named_modules())) == set(dict(plain.model.named_modules()))
    assert set(base_checksums(plain.model)) == {
        name for name in base_checksums(held.model) if ".quant_state." not in name
    }
    biased = [name for name, one in held.model.named_modules() if isinstance(one, Linear4bit) and one.bias is not None]
    assert biased
    assert all(torch.equal(held.model.get_submodule(n).bias, plain.model.get_submodule(n).bias) for n in biased)
    assert not any(one.requires_grad for one in plain.model.parameters())


def test_bytes_are_those_of_the_tensors() -> None:
    layer: Any = Linear4bit(256, 128, bias=False, quant_type="nf4", compress_statistics=False).to(CPU)
    counted = weight_bytes([layer], torch.bfloat16)
    assert counted.dequantized == 256 * 128 * 2
    state = layer.weight.quant_state
    assert counted.quantized == layer.weight.nbytes + state.absmax.nbytes + state.code.nbytes
    assert 256 * 128 // 2 < counted.quantized < 256 * 128 // 2 * 1.2


def test_a_container_with_less_memory_than_the_machine_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "CONTROL_GROUP", tmp_path)
    machine = free_bytes(CPU)
    assert machine > 2**20
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_bytes(CPU) > 2**20
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_bytes(CPU) == 4000


def _values(base: Base) -> list[torch.Tensor]:
    """Return hidden states, the gradient of the embeddings, and hidden states without one: of a token, and of many."""
    ids = torch.arange(60).reshape(3, 20) + 5
    embedded = base.decoder.embed_tokens(ids).detach().requires_grad_(True)
    hidden = base.decoder(inputs_embeds=embedded).last_hidden_state
    hidden.float().square().sum().backward()
    assert embedded.grad is not None
    with torch.no_grad():
        one, many = (base.decoder(inputs_embeds=embedded[:1, :count]).last_hidden_state for count in (1, 20))
    return [hidden.detach(), embedded.grad, one, many]

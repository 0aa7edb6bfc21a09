from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from small_trials import SpecMaker

from trainables.data.encoding import Encoder, collate
from trainables.data.rows import read_rows
from trainables.evaluation.evaluator import label_logits
from trainables.model.base import Base
from trainables.model.lora import Adapter, place
from trainables.model.placement import resolve
from trainables.model.quantization import (
    QUANTIZATION_TABLE,
    keep_gradients,
    quantization_config,
    quantization_named,
    resolve_dtype,
)  # fmt: skip
from trainables.spec import QUANTIZATIONS, Quantization, TrialSpec


def misses(table: Collection[str]) -> set[str]:
    """Name the quantizations that a spec and the table do not share; what a spec allows is its type."""
    return set(get_args(Quantization)) ^ set(table)


assert misses(QUANTIZATION_TABLE) == set(), "a quantization needs its name in spec.py and its line in the table"


def test_a_spec_allows_exactly_the_quantizations_of_the_table() -> None:
    assert get_args(Quantization) == QUANTIZATIONS == tuple(QUANTIZATION_TABLE)
    for name in QUANTIZATIONS:
        assert misses([one for one in QUANTIZATION_TABLE if one != name]) == {name}
    assert misses([*QUANTIZATION_TABLE, "nf3"]) == {"nf3"}


def test_the_documentation_names_every_quantization() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in QUANTIZATIONS)


def test_settings_name_the_quantization_that_has_them() -> None:
    for name, facts in QUANTIZATION_TABLE.items():
        assert quantization_named(facts.bits, facts.kind, facts.double_quantization) == name
    assert quantization_named(8, "nf4", True) == "int8"
    assert quantization_named(2, "nf4", False) is None


def test_no_other_file_has_a_table_of_quantizations() -> None:
    """A dictionary with two of their names as keys, planted in a module, is found; in ours there is one."""
    assert has_table('BITS = {"none": 0, "int8": 8}')
    assert not has_table('{"int8": 8, "rank": 4}')
    root = Path(__file__).parents[3]
    files = [path for package in ("trainables", "sweeps", "analysis") for path in (root / package).rglob("*.py")]
    found = [str(path.relative_to(root)) for path in files if has_table(path.read_text(encoding="utf-8"))]
    assert found == ["trainables/model/quantization.py"]


def has_table(source: str) -> bool:
    dictionaries = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Dict)]
    keys = [{key.value for key in one.keys if isinstance(key, ast.Constant)} for one in dictionaries]
    return any(len(one & set(QUANTIZATIONS)) > 1 for one in keys)


@pytest.fixture(params=QUANTIZATIONS)
def quantized(request: pytest.FixtureRequest, own_base: Callable[..., Base]) -> Iterator[tuple[Quantization, Base]]:
    yield request.param, own_base(request.param)


def eval_once(base: Base, spec: TrialSpec) -> None:
    import torch

    encoder = Encoder(base)
    prompts = [encoder.prompt(row.prompt, row.images) for row in read_rows(spec.validation.path)[:2]]
    batch = collate(prompts, encoder, base.device, pad_left=True)
    base.model.eval()
    with torch.no_grad():
        base.model.generate(**batch.inputs, max_new_tokens=2, do_sample=False)


def gradients(base: Base, adapter: Adapter, spec: TrialSpec) -> dict[str, Any]:
    from torch.nn.functional import cross_entropy

    encoder = Encoder(base)
    rows = [encoder.conversation(row) for row in read_rows(spec.train.path)[:2]]
    base.model.train()
    for _, parameter in adapter.trained():
        parameter.grad = None
    cross_entropy(*label_logits(base, collate(rows, encoder, base.device, pad_left=False))).backward()
    return {name: parameter.grad for name, parameter in adapter.trained() if "lora_B" in name}


def placed(base: Base, spec: TrialSpec) -> Adapter:
    return place(base, spec, resolve(spec.placement, base.towers))


def test_every_mode_loads_for_real_and_trains_both_towers_before_and_after_an_eval(
    quantized: tuple[Quantization, Base], make_spec: SpecMaker
) -> None:
    mode, base = quantized
    spec = make_spec(quantization=mode, dropout=0.0)
    for blocks in base.towers.values():
        for linear in (linear for block in blocks for linear in block):
            assert type(base.model.get_submodule(linear.name)).__name__ == QUANTIZATION_TABLE[mode].layer
    assert type(base.model.lm_head).__name__ == "Linear"
    adapter = placed(base, spec)
    before = gradients(base, adapter, spec)
    eval_once(base, spec)
    after = gradients(base, adapter, spec)
    for found in (before, after):
        assert len(found) == 2 * 7 + 2 * 4
        for name, gradient in found.items():
            assert gradient is not None, f"{name} has no gradient"
            assert gradient.isfinite().all(), name
            assert gradient.norm() > 0, f"{name} has a zero gradient"


def test_the_modes_are_what_their_names_say(make_spec: SpecMaker, own_base: Callable[..., Base]) -> None:
    kinds = {}
    for mode in ("fp4", "nf4", "nf4-double"):
        state = own_base(mode).model.model.language_model.layers[0].mlp.up_proj.weight.quant_state
        kinds[mode] = (state.quant_type, state.nested)
    assert kinds == {"fp4": ("fp4", False), "nf4": ("nf4", False), "nf4-double": ("nf4", True)}


def avx512_bf16() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


def test_without_our_setting_the_gradient_is_lost_at_the_first_eval(
    make_spec: SpecMaker, own_base: Callable[..., Base]
) -> None:
    """Failure F36, planted: the reason why `keep_gradients` exists."""
    from bitsandbytes.nn.modules import Linear4bit

    if not avx512_bf16():
        pytest.skip("bitsandbytes repacks 4-bit weights only on CPUs with AVX512-BF16")
    base, spec = own_base("nf4"), make_spec(quantization="nf4", dropout=0.0)
    layers = [module for module in base.model.modules() if isinstance(module, Linear4bit)]
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    adapter = placed(base, spec)
    assert all(one is not None for one in gradients(base, adapter, spec).values())
    eval_once(base, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lost = [name for name, one in gradients(base, adapter, spec).items() if one is None]
        except RuntimeError as error:  # a layer with a bias crashes instead
            assert "view of a leaf" in str(error)
        else:
            assert any("visual" in name for name in lost)


def test_every_four_bit_layer_gets_our_setting(own_base: Callable[..., Base]) -> None:
    base = own_base("nf4")
    blocks = [linear for tower in base.towers.values() for block in tower for linear in block]
    assert keep_gradients(base.model) >= len(blocks)
    assert keep_gradients(own_base("none").model) == 0


def test_the_compute_dtype_is_the_devices_unless_named() -> None:
    import torch

    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert (resolve_dtype("auto", cpu), resolve_dtype("auto", cuda)) == (torch.float32, torch.bfloat16)
    assert resolve_dtype("float16", cpu) is torch.float16
    assert quantization_config("none", torch.float32) is None
    four = quantization_config("nf4-double", torch.bfloat16)
    assert four is not None
    assert four.bnb_4bit_compute_dtype is torch.bfloat16


def test_a_bfloat16_base_trains_its_adapter_in_float32(make_spec: SpecMaker, own_base: Callable[..., Base]) -> None:
    import torch

    base, spec = own_base("nf4", "bfloat16"), make_spec(quantization="nf4", dropout=0.0)
    adapter = placed(base, spec)
    assert {parameter.dtype for _, parameter in adapter.trained()} == {torch.float32}
    assert all(one is not None and one.isfinite().all() and one.norm() > 0
               for one in gradients(base, adapter, spec).values())  # fmt: skip

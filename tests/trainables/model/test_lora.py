from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker

from trainables.data.encoding import Encoder, collate
from trainables.data.rows import read_rows
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.model.base import Base
from trainables.model.lora import Adapter, PlacementMismatch, initial_a, place
from trainables.model.placement import resolve
from trainables.spec import Placement, TrialSpec


def placed(base: Base, spec: TrialSpec) -> Adapter:
    return place(base, spec, resolve(spec.placement, base.towers))


def randomize(adapter: Adapter) -> None:
    """Randomize all tensors: with lora_B at zero, any adapter equals the base."""
    import torch

    generator = torch.Generator().manual_seed(7)
    for _, parameter in adapter.trained():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)


def logits(model: Any, base: Base, rows_path: Path) -> Any:
    import torch

    encoder = Encoder(base)
    batch = collate(
        [encoder.conversation(row) for row in read_rows(rows_path)[:2]], encoder, base.device, pad_left=False
    )
    with torch.no_grad():
        return model(**batch.inputs).logits


@pytest.fixture
def on_engine(engine: Engine) -> Iterator[Callable[[TrialSpec], Adapter]]:
    """Place adapters on the session's base and take them off afterwards."""
    adapters: list[Adapter] = []

    def put(spec: TrialSpec) -> Adapter:
        adapters.append(placed(engine.base, spec))
        return adapters[-1]

    yield put
    for adapter in adapters:
        adapter.remove()


@pytest.mark.parametrize("depths", [(1, 0), (0, 3), (2, 4), (8, 12)])
def test_exactly_the_asked_modules_carry_lora(
    depths: tuple[int, int], make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], engine: Engine
) -> None:
    language, vision = depths
    adapter = on_engine(make_spec(placement=Placement(language=language, vision=vision)))
    meant = {f"model.language_model.layers.{8 - n}." for n in range(1, language + 1)}
    meant |= {f"model.visual.blocks.{12 - n}." for n in range(1, vision + 1)}
    carrying = {name.split("lora_")[0] for name, _ in engine.base.model.named_parameters() if "lora_" in name}
    assert {next((m for m in meant if name.startswith(m)), name) for name in carrying} == meant
    assert len(carrying) == 7 * language + 4 * vision
    assert {name.removeprefix("base_model.model.") for name, _ in adapter.trained()} == {
        name for name, parameter in engine.base.model.named_parameters() if parameter.requires_grad
    }
    assert len(adapter.parameters("language")) == 2 * 7 * language
    assert len(adapter.parameters("vision")) == 2 * 4 * vision


def one_missing(arguments: dict) -> dict:
    return arguments | {"target_modules": arguments["target_modules"][:-1]}


def merger_too(arguments: dict) -> dict:
    return arguments | {"target_modules": [*arguments["target_modules"], "model.visual.merger.linear_fc1"]}


def both_towers_by_suffix(arguments: dict) -> dict:
    return arguments | {"target_modules": ["q_proj", "qkv"]}


def another_rank(arguments: dict) -> dict:
    return arguments | {"r": arguments["r"] * 2}


def one_of_another_rank(arguments: dict) -> dict:
    return arguments | {"rank_pattern": {arguments["target_modules"][0]: arguments["r"] + 1}}


def bias_trained(arguments: dict) -> dict:
    return arguments | {"bias": "all"}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (one_missing, r"extra \[\], missing \['model.visual.blocks.11.mlp.linear_fc2'\]"),
        (merger_too, r"extra \['model.visual.merger.linear_fc1'\], missing \[\]"),
        (both_towers_by_suffix, "adapted modules differ from the placement"),
        (another_rank, "language trains .* parameters, expected"),
        (one_of_another_rank, "language trains .* parameters, expected"),
        (bias_trained, "trainable parameters are not exactly the adapter's"),
    ],
)
def test_adapters_on_other_modules_are_never_trained(
    fault: Callable, expected: str, make_spec: SpecMaker, own_base: Callable[..., Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT gets other modules than the placement's; the modules on the model are checked."""
    import peft

    monkeypatch.setattr("trainables.model.lora.LoraConfig", lambda **arguments: peft.LoraConfig(**fault(arguments)))
    with pytest.raises(PlacementMismatch, match=expected):
        placed(own_base(), make_spec())


def test_a_model_whose_linears_are_wider_than_its_config_says_is_refused(
    make_spec: SpecMaker, own_base: Callable[..., Base]
) -> None:
    import torch

    base = own_base()
    layer = base.model.model.language_model.layers[7].mlp
    layer.gate_proj = torch.nn.Linear(128, 256, bias=False)
    with pytest.raises(PlacementMismatch, match="adapted modules differ"):
        placed(base, make_spec())


def test_the_seed_decides_the_initial_weights(make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter]) -> None:
    import torch

    states = []
    for seed in (0, 0, 1):
        adapter = on_engine(make_spec(seed=seed))
        states.append({name: tensor.clone() for name, tensor in adapter.state().items()})
        adapter.remove()
        torch.rand(3)  # whatever else draws numbers in between
    down = [name for name in states[0] if "lora_A" in name]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(torch.equal(states[0][name], states[2][name]) for name in down)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8.0 / 16), (True, 8.0 / 4)])
def test_the_scale_is_alpha_over_rank_or_over_its_root(
    rslora: bool, scale: float, make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], engine: Engine
) -> None:
    on_engine(make_spec(rank=16, alpha=8.0, dropout=0.25, rslora=rslora))
    layer = engine.base.model.model.language_model.layers[7].mlp.up_proj
    assert layer.scaling["default"] == scale
    assert layer.lora_dropout["default"].masks.rate == 0.25


@pytest.mark.parametrize("rslora", [False, True])
def test_plain_peft_loads_what_was_saved(
    rslora: bool,
    make_spec: SpecMaker,
    on_engine: Callable[[TrialSpec], Adapter],
    engine: Engine,
    tmp_path: Path,
) -> None:
    import torch
    from peft import PeftModel
    from transformers import Qwen3VLForConditionalGeneration

    spec = make_spec(rslora=rslora)
    adapter = on_engine(spec)
    randomize(adapter)
    engine.base.model.eval()
    own = logits(engine.base.model, engine.base, spec.train.path)
    adapter.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}

    fresh = Qwen3VLForConditionalGeneration.from_pretrained(spec.base.path, dtype=torch.float32)
    alone = logits(fresh, engine.base, spec.train.path)
    loaded = PeftModel.from_pretrained(fresh, str(tmp_path)).eval()
    theirs = logits(loaded, engine.base, spec.train.path)
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-6)
    assert (theirs - alone).abs().max() > 0.1


def test_removing_an_adapter_restores_the_base_bit_for_bit(make_spec: SpecMaker, own_base: Callable[..., Base]) -> None:
    import torch

    base, spec = own_base(), make_spec()
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    modules = {name: type(module) for name, module in base.model.named_modules()}
    logits_before = logits(base.model, base, spec.train.path)
    for _ in range(2):
        adapter = placed(base, spec)
        randomize(adapter)
        base.model.train()
        logits(base.model, base, spec.train.path)
        adapter.remove()
    after = base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name: type(module) for name, module in base.model.named_modules()} == modules
    assert torch.equal(logits(base.model, base, spec.train.path), logits_before)
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not any(module.training for module in base.model.modules())


def test_a_saved_adapter_is_continued(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], tmp_path: Path
) -> None:
    import torch

    parent = on_engine(make_spec())
    randomize(parent)
    parent.save(tmp_path)
    saved = {name: tensor.clone() for name, tensor in parent.state().items()}
    parent.remove()

    child = on_engine(make_spec(seed=5))
    child.load(tmp_path)
    assert child.state().keys() == saved.keys()
    assert all(torch.equal(child.state()[name], saved[name]) for name in saved)
    assert all(parameter.requires_grad for _, parameter in child.trained())


@pytest.mark.parametrize("depths", [(1, 2), (3, 2), (2, 0)])
def test_another_placement_is_not_continued(
    depths: tuple[int, int], make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], tmp_path: Path
) -> None:
    parent = on_engine(make_spec())
    parent.save(tmp_path)
    parent.remove()
    child = on_engine(make_spec(placement=Placement(language=depths[0], vision=depths[1])))
    with pytest.raises(
        UserError, match=r"must have the tensors of the new one, but \d+ differ, the first is base_model"
    ):
        child.load(tmp_path)


def test_another_rank_is_detected_from_the_shapes_too(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], tmp_path: Path
) -> None:
    parent = on_engine(make_spec())
    parent.save(tmp_path)
    parent.remove()
    with pytest.raises(UserError, match="44 differ"):
        on_engine(make_spec(rank=8)).load(tmp_path)


def test_an_extended_adapter_computes_what_its_parent_does(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], engine: Engine, tmp_path: Path
) -> None:
    import torch

    spec = make_spec(placement=Placement(language=2, vision=2))
    parent = on_engine(spec)
    randomize(parent)
    parent.save(tmp_path)
    expected = logits(engine.base.model, engine.base, spec.train.path)
    parent.remove()

    child = on_engine(make_spec(placement=Placement(language=2, vision=4), seed=5))
    child.extend_from(tmp_path)
    assert torch.equal(logits(engine.base.model, engine.base, spec.train.path), expected)
    new = [p for name, p in child.trained() if ".blocks.8." in name or ".blocks.9." in name]
    assert len(new) == 2 * 4 * 2 and all(parameter.requires_grad for parameter in new)


@pytest.mark.parametrize("changes", [{"rank": 8}, {"placement": Placement(language=1, vision=4)}])
def test_what_does_not_contain_an_adapter_cannot_extend_it(
    changes: dict, make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], tmp_path: Path
) -> None:
    parent = on_engine(make_spec())
    parent.save(tmp_path)
    parent.remove()
    with pytest.raises(UserError, match=r"must hold the tensors of the saved one, but \d+ of 44 differ: base_model"):
        on_engine(make_spec(**changes)).extend_from(tmp_path)


def test_an_extension_with_nonzero_new_modules_is_refused(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], tmp_path: Path
) -> None:
    parent = on_engine(make_spec())
    parent.save(tmp_path)
    parent.remove()
    child = on_engine(make_spec(placement=Placement(language=2, vision=4)))
    randomize(child)
    with pytest.raises(PlacementMismatch, match="0 of its tensors changed and 8 new modules are not zero"):
        child.extend_from(tmp_path)


# -------------------------------------------------------------------- where a trial starts
def started(base: Base, spec: TrialSpec) -> dict[str, Any]:
    """Return every tensor of a fresh adapter by its name in PEFT."""
    adapter = placed(base, spec)
    try:
        return {name: parameter.detach().clone() for name, parameter in adapter.trained()}
    finally:
        adapter.remove()


def of_a(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if ".lora_A." in name}


def test_equal_modules_of_two_placements_of_one_seed_start_equal(make_spec: SpecMaker, engine: Engine) -> None:
    import torch

    small, large = (
        started(engine.base, make_spec(placement=Placement(language=2, vision=vision), seed=3)) for vision in (0, 2)
    )
    assert len(of_a(small)) == 14 and of_a(small).keys() < of_a(large).keys()
    assert all(torch.equal(tensor, large[name]) for name, tensor in small.items())
    other = started(engine.base, make_spec(placement=Placement(language=2), seed=4))
    assert not any(torch.equal(tensor, other[name]) for name, tensor in of_a(small).items())
    assert len({tuple(tensor.flatten().tolist()) for tensor in of_a(large).values()}) == len(of_a(large))
    assert not any(tensor.any() for name, tensor in large.items() if ".lora_B." in name)


def test_a_smaller_rank_starts_as_the_first_rows_of_a_larger_one(make_spec: SpecMaker, engine: Engine) -> None:
    import torch

    four, eight = (of_a(started(engine.base, make_spec(rank=rank))) for rank in (4, 8))
    assert four.keys() == eight.keys()
    assert all(torch.equal(tensor, eight[name][:4]) for name, tensor in four.items())


def test_the_module_is_named_as_in_the_base(make_spec: SpecMaker, engine: Engine) -> None:
    import torch

    tensors = started(engine.base, make_spec(seed=5))
    name = "model.language_model.layers.6.self_attn.q_proj"
    tensor = tensors[f"base_model.model.{name}.lora_A.default.weight"]
    assert torch.equal(tensor, initial_a(5, name, *tensor.shape))
    assert isinstance(engine.base.model.get_submodule(name), torch.nn.Linear)


@pytest.mark.parametrize("inputs", [64, 192])
def test_the_distribution_is_that_of_peft(inputs: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from scipy.stats import ks_2samp

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(inputs, 8))
    peft_model = get_peft_model(model, LoraConfig(r=64, target_modules=["0"]))
    theirs = peft_model.base_model.model[0].lora_A.default.weight.detach()
    ours, bound = initial_a(0, "0", 64, inputs), inputs**-0.5
    assert theirs.shape == ours.shape
    for drawn in (theirs, ours):
        assert 0.999 * bound < float(drawn.abs().max()) <= bound
    assert ks_2samp(theirs.flatten(), ours.flatten()).pvalue > 0.01
    narrower = (0.9 * ours).flatten()
    assert ks_2samp(theirs.flatten(), narrower).pvalue < 0.01  # the test can tell


def test_a_trial_of_format_1_starts_as_peft_alone_starts_it(make_spec: SpecMaker, engine: Engine) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    old = make_spec(format=1, seed=3, placement=Placement(language=2, vision=2))
    ours = started(engine.base, old)
    names = [linear.name for tower in ("language", "vision")
             for linear in resolve(old.placement, engine.base.towers).linears[tower]]  # fmt: skip
    torch.manual_seed(3)
    model = get_peft_model(engine.base.model, LoraConfig(r=old.rank, target_modules=names))
    theirs = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}
    model.unload()
    engine.base.model.requires_grad_(False)
    engine.base.model.eval()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    new = started(engine.base, make_spec(seed=3, placement=Placement(language=2, vision=2)))
    assert not any(torch.equal(tensor, new[name]) for name, tensor in of_a(ours).items())


def test_what_an_extension_adds_starts_as_it_would_alone(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], engine: Engine, tmp_path: Path
) -> None:
    import torch

    parent = on_engine(make_spec(placement=Placement(language=2)))
    randomize(parent)
    parent.save(tmp_path)
    kept = {name: p.detach().clone() for name, p in parent.trained()}
    parent.remove()
    fresh = started(engine.base, make_spec(placement=Placement(language=2, vision=2)))
    child = on_engine(make_spec(placement=Placement(language=2, vision=2)))
    child.extend_from(tmp_path)
    assert all(torch.equal(p, kept.get(name, fresh[name])) for name, p in child.trained())


def test_plain_peft_loads_a_fresh_adapter(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], own_base: Callable[..., Base], tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    adapter = on_engine(make_spec())
    adapter.save(tmp_path)
    loaded = PeftModel.from_pretrained(own_base("none").model, str(tmp_path))
    theirs = {name: p for name, p in loaded.named_parameters() if "lora_" in name}
    assert theirs.keys() == {name for name, _ in adapter.trained()}
    assert all(torch.equal(p, theirs[name]) for name, p in adapter.trained())

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
from trainables.model.lora import Adapter, PlacementMismatch, place
from trainables.model.placement import resolve
from trainables.spec import Placement, TrialSpec


def placed(base: Base, spec: TrialSpec) -> Adapter:
    return place(base, spec, resolve(spec.placement, base.towers))


def randomize(adapter: Adapter) -> None:
    """Give every tensor weight: with lora_B at zero, any adapter equals the base."""
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
    ("fault", "says"),
    [
        (one_missing, r"extra \[\], missing \['model.visual.blocks.11.mlp.linear_fc2'\]"),
        (merger_too, r"extra \['model.visual.merger.linear_fc1'\], missing \[\]"),
        (both_towers_by_suffix, "adapted modules differ from the placement"),
        (another_rank, "language trains .* parameters, expected"),
        (one_of_another_rank, "language trains .* parameters, expected"),
        (bias_trained, "trainable parameters are not exactly the adapter's"),
    ],
)
def test_an_adapter_that_is_elsewhere_is_never_trained(
    fault: Callable, says: str, make_spec: SpecMaker, own_base: Callable[..., Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT is handed something else than the placement; only what stands on the model afterwards counts."""
    import peft

    monkeypatch.setattr("trainables.model.lora.LoraConfig", lambda **arguments: peft.LoraConfig(**fault(arguments)))
    with pytest.raises(PlacementMismatch, match=says):
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


def test_removing_gives_the_base_back_to_the_bit(make_spec: SpecMaker, own_base: Callable[..., Base]) -> None:
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


def test_another_rank_is_told_from_the_shapes_too(
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


def test_a_new_module_that_acts_already_is_no_extension(
    make_spec: SpecMaker, on_engine: Callable[[TrialSpec], Adapter], tmp_path: Path
) -> None:
    parent = on_engine(make_spec())
    parent.save(tmp_path)
    parent.remove()
    child = on_engine(make_spec(placement=Placement(language=2, vision=4)))
    randomize(child)
    with pytest.raises(PlacementMismatch, match="0 of its tensors changed and 8 new modules act already"):
        child.extend_from(tmp_path)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_trials import SpecMaker

from trainables.engine import Engine
from trainables.model.lora import Adapter, place
from trainables.model.optimizer import Optimizer, rate_factor
from trainables.model.placement import resolve
from trainables.spec import Placement


@pytest.fixture
def adapter(engine: Engine, make_spec: SpecMaker) -> Iterator[Adapter]:
    spec = make_spec()
    placed = place(engine.base, spec, resolve(spec.placement, engine.base.towers))
    yield placed
    placed.remove()


@pytest.mark.parametrize("beta2", [0.999, 0.95])
def test_the_second_beta_is_torchs_and_changes_the_second_step(
    engine: Engine, make_spec: SpecMaker, adapter: Adapter, beta2: float
) -> None:
    import torch

    spec = make_spec(adam_beta2=beta2, max_gradient_norm=1e9, weight_decay=0.0, warmup_ratio=0.0, schedule="constant")
    name, parameter = adapter.trained()[0]
    alone = torch.nn.Parameter(parameter.detach().clone())
    rate = spec.vision_learning_rate if "visual" in name else spec.learning_rate
    theirs = torch.optim.AdamW([alone], lr=rate, betas=(0.9, beta2), weight_decay=0.0)
    ours = Optimizer(adapter, spec)
    for step in range(3):
        set_gradients(adapter, seed=step, scale=10.0**-step)
        alone.grad = parameter.grad.clone()  # type: ignore[union-attr]
        ours.step(step)
        theirs.step()
    assert torch.allclose(parameter, alone, atol=1e-7)


def set_gradients(adapter: Adapter, seed: int, scale: float = 1.0) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _, parameter in adapter.trained():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("steps", [1, 2, 7, 30, 120])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.05, 0.2, 0.33, 1.0])
@pytest.mark.parametrize("min_rate_ratio", [0.0, 0.1, 1.0])
def test_the_schedule_is_transformers(steps: int, warmup_ratio: float, min_rate_ratio: float) -> None:
    import torch
    from transformers import TrainingArguments, get_cosine_with_min_lr_schedule_with_warmup

    adamw = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = TrainingArguments(output_dir="unused", warmup_steps=warmup_ratio if warmup_ratio < 1 else steps,
                               use_cpu=True).get_warmup_steps(steps)  # fmt: skip
    theirs = get_cosine_with_min_lr_schedule_with_warmup(adamw, warmup, steps, min_lr_rate=min_rate_ratio)
    expected = [theirs.lr_lambdas[0](step) for step in range(steps + 1)]
    ours = [rate_factor(step, steps, warmup_ratio, min_rate_ratio) for step in range(steps + 1)]
    assert ours == pytest.approx(expected, abs=1e-12)


def test_the_other_schedules_are_transformers_too() -> None:
    import torch
    import transformers

    adamw = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = {
        "linear": transformers.get_linear_schedule_with_warmup(adamw, 10, 50),
        "constant": transformers.get_constant_schedule_with_warmup(adamw, 10),
        "stable": transformers.get_wsd_schedule(adamw, 10, 8, 50, decay_type="linear"),
    }
    for name, schedule in theirs.items():
        expected = [schedule.lr_lambdas[0](step) for step in range(50)]
        ours = [rate_factor(step, 50, 0.2, 0.0, name) for step in range(50)]
        assert ours == pytest.approx(expected, abs=1e-12), name


def test_each_tower_has_its_own_rate_and_every_parameter_one_group(adapter: Adapter, make_spec: SpecMaker) -> None:
    spec = make_spec(learning_rate=1e-3, vision_learning_rate=3e-3, weight_decay=0.25)
    optimizer = Optimizer(adapter, spec)
    set_gradients(adapter, 0)
    optimizer.step(1)
    factor = rate_factor(1, spec.steps, spec.warmup_ratio, spec.min_rate_ratio)
    groups = {group["tower"]: group for group in optimizer.adamw.param_groups}
    assert groups["language"]["lr"] == 1e-3 * factor > 0
    assert groups["vision"]["lr"] == 3e-3 * factor
    for tower, path in (("language", "language_model"), ("vision", "visual")):
        meant = {id(p) for name, p in adapter.peft_model.named_parameters() if path in name and "lora_" in name}
        assert {id(p) for p in groups[tower]["params"]} == meant
        assert groups[tower]["weight_decay"] == 0.25
    assert all(parameter.grad is None for _, parameter in adapter.trained())


@pytest.mark.parametrize(("placement", "towers"), [((2, 0), ["language"]), ((0, 2), ["vision"])])
def test_a_tower_without_adapter_has_no_group(
    placement: tuple[int, int], towers: list[str], engine: Engine, make_spec: SpecMaker
) -> None:
    spec = make_spec(placement=Placement(language=placement[0], vision=placement[1]))
    placed = place(engine.base, spec, resolve(spec.placement, engine.base.towers))
    try:
        assert [group["tower"] for group in Optimizer(placed, spec).adamw.param_groups] == towers
    finally:
        placed.remove()


@pytest.mark.parametrize("scale", [1e-3, 10.0])  # below and above the largest norm
def test_clipping_and_update_are_torchs(scale: float, adapter: Adapter, make_spec: SpecMaker) -> None:
    import torch

    spec = make_spec(learning_rate=2e-3, vision_learning_rate=2e-3, warmup_ratio=0.0)
    copies = [torch.nn.Parameter(parameter.detach().clone()) for _, parameter in adapter.trained()]
    theirs = torch.optim.AdamW(copies, lr=0.0, weight_decay=spec.weight_decay)
    ours = Optimizer(adapter, spec)
    for step in range(3):
        set_gradients(adapter, step, scale)
        for copy, (_, parameter) in zip(copies, adapter.trained(), strict=True):
            assert parameter.grad is not None
            copy.grad = parameter.grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(copies, spec.max_gradient_norm)
        assert (float(norm) > spec.max_gradient_norm) == (scale > 1)
        theirs.param_groups[0]["lr"] = 2e-3 * rate_factor(step, spec.steps, 0.0, spec.min_rate_ratio)
        theirs.step()
        assert ours.step(step) == float(norm)
    for copy, (name, parameter) in zip(copies, adapter.trained(), strict=True):
        torch.testing.assert_close(copy, parameter, rtol=0, atol=1e-7, msg=name)


def test_saving_and_loading_changes_nothing(adapter: Adapter, make_spec: SpecMaker, tmp_path: Path) -> None:
    import torch

    def run(optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            set_gradients(adapter, step)
            optimizer.step(step)

    spec, start = make_spec(), [parameter.detach().clone() for _, parameter in adapter.trained()]
    uninterrupted = Optimizer(adapter, spec)
    run(uninterrupted, range(4))
    expected = [parameter.detach().clone() for _, parameter in adapter.trained()]

    for (_, parameter), value in zip(adapter.trained(), start, strict=True):
        parameter.data.copy_(value)
    before = Optimizer(adapter, spec)
    run(before, range(2))
    before.save(tmp_path)
    after = Optimizer(adapter, spec)
    after.load(tmp_path)
    run(after, range(2, 4))
    for (name, parameter), value in zip(adapter.trained(), expected, strict=True):
        assert torch.equal(parameter, value), name


def test_a_state_that_lacks_a_parameter_is_refused(adapter: Adapter, make_spec: SpecMaker, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from trainables.errors import UserError

    optimizer = Optimizer(adapter, make_spec())
    set_gradients(adapter, 0)
    optimizer.step(0)
    optimizer.save(tmp_path)
    path = tmp_path / "optimizer.safetensors"
    tensors = load_file(path)
    removed = next(name for name in tensors if name.endswith("exp_avg_sq"))
    save_file({name: tensor for name, tensor in tensors.items() if name != removed}, path)
    with pytest.raises((KeyError, UserError), match=removed.replace(".", r"\.")):
        Optimizer(adapter, make_spec()).load(tmp_path)

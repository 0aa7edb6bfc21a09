"""Tests the gradients that choose layers: against PEFT with transformers' loss, and as a launch measures them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from small_trials import Sources, SpecMaker

from trainables.gradient_norms import GradientNorms, GradientSource
from trainables.io.files import read_json, write_json
from trainables.model.families import TOWERS, family_of
from trainables.placement import Placement
from trainables.training.layer_gradients import RANK, layer_gradients

if TYPE_CHECKING:
    from trainables.engine import Engine


def reference(engine: Engine, rows: int) -> dict[str, float]:
    """Measure with an adapter that PEFT places, its lora_A set to ours, and the loss that transformers computes."""
    import torch
    from peft import LoraConfig, get_peft_model

    from trainables.data.encoding import collate
    from trainables.model.lora import initial_a

    names = [linear.name for tower in TOWERS for block in engine.base.towers[tower] for linear in block]
    model = get_peft_model(engine.base.model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names)).eval()
    try:
        parameters = {name: one for name, one in model.named_parameters() if "lora_" in name}
        for name in names:
            weight = parameters[f"base_model.model.{name}.lora_A.default.weight"]
            weight.data = initial_a(0, name, *weight.shape)
        batches = [
            collate([engine.encode(index, 2048)], engine.encoder, torch.device("cpu"), pad_left=False)
            for index in range(rows)
        ]
        tokens = sum(batch.supervised_tokens for batch in batches)
        for batch in batches:
            loss = model(**batch.inputs, labels=batch.labels).loss  # the mean of the row
            (loss * batch.supervised_tokens / tokens).backward()
        return {
            name: float(parameters[f"base_model.model.{name}.lora_B.default.weight"].grad.norm())  # type: ignore[union-attr]
            for name in names
        }
    finally:
        model.unload().requires_grad_(False)


def test_gradients_equal_those_of_peft_with_the_loss_of_transformers(engine: Engine, make_spec: SpecMaker) -> None:
    placed = make_spec(placement=Placement(language=1), rank=2, alpha=64.0, dropout=0.5, seed=3)
    found = layer_gradients(engine, placed)
    expected = reference(engine, found.rows)
    assert (found.rows, found.source) == (len(engine.train), GradientSource.of(placed))
    assert found.norms == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert min(found.norms.values()) > 0
    assert not any(parameter.requires_grad for parameter in engine.base.model.parameters())
    again = layer_gradients(engine, make_spec(placement=Placement(vision=2), rank=8))
    assert again.norms == found.norms, "what a trial trains must not decide what is measured"


def test_the_norm_of_a_layer_is_that_of_its_linears_of_a_kind(make_spec: SpecMaker) -> None:
    spec = make_spec()
    family, config = family_of(spec.base.path)
    towers = family.towers(config)
    norms = {one.name: 3.0 if "mlp.up" in one.name else 0.0 for t in TOWERS for block in towers[t] for one in block}
    norms["model.language_model.layers.2.mlp.gate_proj"] = 4.0
    norms["model.language_model.layers.5.self_attn.q_proj"] = 7.0
    found = GradientNorms(source=GradientSource.of(spec), rows=1, supervised_tokens=1, loss=1.0, norms=norms)
    assert found.by_layer(towers, "gate-up")["language"] == (3, 3, 5, 3, 3, 3, 3, 3)
    assert found.by_layer(towers, "attention")["language"] == (0, 0, 0, 0, 0, 7, 0, 0)
    assert found.by_layer(towers, "all")["vision"] == (0,) * 12
    assert GradientNorms.model_validate(found.model_dump(mode="json")) == found


# -------------------------------------------------------------------- as a worker
@pytest.fixture(scope="module")
def measured(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    from trainables.gradient_norms import GradientJob
    from trainables.training.layer_gradients import main

    directory = tmp_path_factory.mktemp("gradients")
    job = GradientJob(spec=sources.spec(), result=directory / "gradients.json")
    write_json(directory / "job.json", job.model_dump(mode="json"))
    main(directory / "job.json")
    yield {"content": read_json(directory / "gradients.json")}


def test_the_worker_writes_what_is_measured(measured: dict[str, Any], engine: Engine, make_spec: SpecMaker) -> None:
    kept = GradientNorms.model_validate(measured["content"])
    assert kept.norms == pytest.approx(dict(layer_gradients(engine, make_spec()).norms), rel=1e-6)


def test_rows_that_do_not_fit_are_refused_by_name(engine: Engine, make_spec: SpecMaker) -> None:
    from trainables.errors import UserError

    with pytest.raises(UserError, match="must fit max_tokens = 8"):
        layer_gradients(engine, make_spec(max_tokens=8))
    assert not any(parameter.requires_grad for parameter in engine.base.model.parameters())

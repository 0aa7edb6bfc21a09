"""Tests training against Hugging Face's Trainer, and against itself on another engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker, assert_same_outcome, finish, opened, tensors, train_to, whole_run

from trainables.engine import Engine
from trainables.io.files import read_json
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, TrialSpec


def losses_of(engine: Engine, spec: TrialSpec, directory: Path, baseline: Baseline, steps: int) -> list[float]:
    with opened(engine, spec, directory, baseline) as trial:
        train_to(trial, steps)
    return read_json(Record(directory).checkpoint(steps) / "progress.json")["interval_losses"]


def trainer_run(engine: Engine, spec: TrialSpec, steps: int, directory: Path) -> tuple[list[float], list[float], dict]:
    """Train the same trial with PEFT and transformers.Trainer; returns losses, gradient norms and the adapter."""
    from itertools import islice

    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import (
        Qwen3VLForConditionalGeneration,
        Trainer,
        TrainingArguments,
        get_cosine_with_min_lr_schedule_with_warmup,
    )

    from trainables.data.encoding import collate, data_order
    from trainables.model.placement import resolve

    order = islice(data_order(len(engine.train), spec.data_seed), steps * spec.effective_rows)
    rows_in_order = [engine.encode(index, spec.max_tokens) for index in order]

    def together(rows: list) -> dict:
        batch = collate(rows, engine.encoder, engine.base.device, pad_left=False)
        return {**batch.inputs, "labels": batch.labels}

    model = Qwen3VLForConditionalGeneration.from_pretrained(spec.base.path, dtype=torch.float32)
    names = resolve(spec.placement, engine.base.towers).module_names
    torch.manual_seed(spec.seed)
    model = get_peft_model(
        model, LoraConfig(r=spec.rank, lora_alpha=int(spec.alpha), lora_dropout=0.0, target_modules=list(names))
    )
    towers = {"language_model": spec.learning_rate, "visual": spec.vision_learning_rate}
    groups = [
        {"params": [p for n, p in model.named_parameters() if p.requires_grad and tower in n], "lr": rate}
        for tower, rate in towers.items()
    ]
    adamw = torch.optim.AdamW(groups, weight_decay=spec.weight_decay)
    warmup = round(spec.warmup_ratio * spec.steps)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(adamw, warmup, spec.steps, min_lr_rate=spec.min_rate_ratio)
    arguments = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=spec.batch_rows,
        gradient_accumulation_steps=spec.accumulation_steps,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        max_grad_norm=spec.max_gradient_norm,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, arguments, train_dataset=rows_in_order, data_collator=together, optimizers=(adamw, schedule)
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    state = {name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(model).items()}
    return [entry["loss"] for entry in logged], [entry["grad_norm"] for entry in logged], state


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_losses_norms_and_adapter_are_those_of_the_trainer(
    accumulation_steps: int, engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    steps = 6
    budget = {"steps": 8, "eval_every_steps": 8, "warmup_ratio": 0.25, "accumulation_steps": accumulation_steps}
    spec = make_spec(format=1, dropout=0.0, **budget)  # whose LoRA starts as PEFT starts it
    losses, norms, state = trainer_run(engine, spec, steps, tmp_path / "trainer")
    own = losses_of(engine, spec, tmp_path / "own", baseline, steps)
    checkpoint = Record(tmp_path / "own").checkpoint(steps)
    assert own == pytest.approx(losses, abs=1e-5)
    assert read_json(checkpoint / "progress.json")["interval_norms"] == pytest.approx(norms, rel=1e-3)
    saved = load_file(checkpoint / "adapter_model.safetensors")
    assert saved.keys() == state.keys()
    for name, tensor in state.items():
        assert (saved[name] - tensor).abs().max() < 2e-4, name


def test_two_accumulated_batches_equal_one(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"dropout": 0.0, "steps": 8, "eval_every_steps": 8, "max_gradient_norm": 0.1}
    whole = losses_of(engine, make_spec(batch_rows=6, **common), tmp_path / "a", baseline, 4)
    halves = make_spec(batch_rows=3, accumulation_steps=2, **common)
    assert losses_of(engine, halves, tmp_path / "b", baseline, 4) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("depths", [(2, 0), (0, 3), (1, 2)])
def test_nothing_below_the_lowest_adapter_records_a_graph(
    depths: tuple[int, int], engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    language, vision = depths
    model = engine.base.model.model
    layers = {"language": model.language_model.layers, "vision": model.visual.blocks}
    needs: dict[tuple[str, int], bool] = {}
    handles = []
    for tower, blocks in layers.items():
        for index, block in enumerate(blocks):

            def see(_: Any, inputs: tuple, keywords: dict, key: tuple[str, int] = (tower, index)) -> None:
                hidden = inputs[0] if inputs else keywords["hidden_states"]
                needs[key] = hidden.requires_grad

            handles.append(block.register_forward_pre_hook(see, with_kwargs=True))
    try:
        spec = make_spec(placement=Placement(language=language, vision=vision))
        with opened(engine, spec, tmp_path / "t", baseline) as trial:
            train_to(trial, 1)
    finally:
        for handle in handles:
            handle.remove()
    lowest_vision, lowest_language = 12 - vision, 8 - language if not vision else -1
    assert needs == {("vision", index): index > lowest_vision for index in range(12)} | {
        ("language", index): index > lowest_language for index in range(8)
    }


def test_dropout_is_on_in_every_step_and_off_in_every_eval(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    seen: list[tuple[bool, bool]] = []
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        dropout = engine.base.model.model.language_model.layers[7].mlp.up_proj.lora_dropout["default"]
        dropout.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
        finish(trial)
    assert all(training == with_gradient for training, with_gradient in seen)
    assert sum(training for training, _ in seen) >= 4
    assert seen[-1] == (False, False)


def test_a_reused_engine_gives_what_a_fresh_one_gives(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    spec = make_spec(placement=Placement(language=1, vision=2), seed=3)
    whole_run(engine, make_spec(placement=Placement(language=3), rank=8, steps=2), tmp_path / "before", baseline)
    reused = whole_run(engine, spec, tmp_path / "reused", baseline)
    fresh_engine = Engine.load(spec, torch.device("cpu"))
    fresh = whole_run(fresh_engine, spec, tmp_path / "fresh", baseline)
    assert_same_outcome(reused, fresh)


def test_a_reused_nf4_engine_repeats_itself(
    nf4_engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    spec = make_spec(quantization="nf4-double", steps=2)
    first, second = (whole_run(nf4_engine, spec, tmp_path / name, baseline) for name in ("first", "second"))
    assert_same_outcome(first, second)
    moved = tensors(first.checkpoint(2) / "adapter_model.safetensors")
    assert all(any(any(row) for row in values) for name, values in moved.items() if "lora_B" in name)


def test_the_seed_changes_masks_and_weights_and_not_the_rows(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, list[int]] = {}
    encode = Engine.encode
    losses = {}
    for seed in (0, 1):
        rows = seen.setdefault(seed, [])
        monkeypatch.setattr(Engine, "encode", lambda s, i, *rest, rows=rows: rows.append(i) or encode(s, i, *rest))
        losses[seed] = losses_of(engine, make_spec(seed=seed, eval_every_steps=4), tmp_path / str(seed), baseline, 3)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 3 * 3
    assert losses[0] != losses[1]

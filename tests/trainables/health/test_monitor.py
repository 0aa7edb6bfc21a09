"""Tests the monitor's measurements of a live trial against PyTorch, and that its state survives a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker, finish, never, opened, train_to

from trainables.engine import Engine
from trainables.health.checks import Finding
from trainables.health.monitor import dead_modules, reached_towers, update_norm
from trainables.io.files import read_json
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement


def with_gradients(trial: Any) -> None:
    import torch

    torch.manual_seed(0)
    for _, parameter in trial.adapter.trained():
        parameter.grad = torch.randn_like(parameter)


def test_norms_are_those_of_torch(engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path) -> None:
    import torch

    with opened(engine, make_spec(rslora=True), tmp_path / "t", baseline) as trial:
        with_gradients(trial)
        trial.monitor.see_gradients(has_images=True)
        norms = trial.monitor._gradients
        assert set(norms) == {"language", "vision"}
        whole = torch.nn.utils.clip_grad_norm_([p for _, p in trial.adapter.trained()], 1e9)
        assert sum(norm**2 for norm in norms.values()) ** 0.5 == pytest.approx(float(whole), rel=1e-5)
        assert update_norm(trial.adapter, "vision") == 0.0
        squares = 0.0
        for name, parameter in trial.adapter.parameters("vision"):
            if "lora_B" in name:
                parameter.data.normal_()
                a = dict(trial.adapter.trained())[name.replace("lora_B", "lora_A")]
                scale = 8.0 / 4**0.5  # rsLoRA: alpha over the root of the rank
                squares += float((scale * parameter.data @ a.data).square().sum())
        assert update_norm(trial.adapter, "vision") == pytest.approx(squares**0.5, rel=1e-5)
        assert update_norm(trial.adapter, "language") == 0.0


@pytest.mark.parametrize("gradient", [None, 0.0, float("nan"), float("inf")])
def test_a_module_without_a_usable_gradient_is_named(
    gradient: float | None, engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        with_gradients(trial)
        towers = reached_towers(trial.adapter, has_images=True)
        assert towers == ["language", "vision"] and dead_modules(trial.adapter, towers, "lora_B") == []
        name, parameter = next((n, p) for n, p in trial.adapter.parameters("vision") if "lora_B" in n)
        parameter.grad = None if gradient is None else torch.full_like(parameter, gradient)
        assert dead_modules(trial.adapter, towers, "lora_B") == [name]
        assert dead_modules(trial.adapter, reached_towers(trial.adapter, has_images=False), "lora_B") == []


def test_the_size_of_the_update_is_a_curve_of_every_trial(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    for name, spec in (("t", make_spec()), ("a0", make_spec().baseline())):
        with opened(engine, spec, tmp_path / name, baseline) as trial:
            finish(trial)
    records = {name: Record(tmp_path / name).measurements() for name in ("t", "a0")}
    curves = {
        name: [one.metrics["adapter_norm_vision"] for one in measured if one.kind == "train"]
        for name, measured in records.items()
    }
    assert 0 < curves["t"][0] < curves["t"][1] and curves["a0"] == [0.0]


def test_rows_that_reach_no_adapter_are_not_a_failure(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    spec = make_spec(placement=Placement(vision=2), warmup_ratio=0.0)
    with opened(engine, spec, tmp_path / "t", baseline) as trial:
        monitor, loss = trial.monitor, baseline.metrics["eval_loss"]
        for step in (1, 2, 3):
            monitor.see_gradients(has_images=False)
            trial.optimizer.step(step - 1)
            assert monitor.after_step(step, 1.0 / step, 0.0) is None
        assert monitor.after_eval(3, loss) is None
        monitor.see_gradients(has_images=True)
        trial.optimizer.step(3)
        monitor.after_step(4, 0.1, 0.1)
        finding = monitor.after_eval(4, loss)
    assert finding is not None and finding.check == "no_learning"


def test_what_was_seen_before_a_stop_counts_after_it(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    """Two steps without gradient, a stop between them: the second is found all the same, and the label is kept."""
    label = Finding("gradient_spikes", "degraded", 1, "gradient norm 5e4 at step 1")

    def numb(trial: Any) -> None:
        for _, parameter in trial.adapter.parameters("vision"):
            parameter.register_hook(lambda gradient: gradient * 0)

    with opened(engine, make_spec(eval_every_steps=4), tmp_path / "t", baseline) as trial:
        numb(trial)
        trial.monitor.note(label)
        trial.monitor.note(label)
        train_to(trial, 1)
        assert Record(tmp_path / "t").verdict() is None
    with opened(engine, make_spec(eval_every_steps=4), tmp_path / "t", baseline) as trial:
        assert [one.step for one in trial.monitor.history] == [1] and trial.monitor.degraded == [label]
        numb(trial)
        verdict = trial.advance(never)
    assert (verdict.kind, verdict.cause, verdict.step) == ("invalid", "zero_gradient", 2)


def test_a_label_of_degraded_training_is_in_the_record_and_its_provenance(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        trial.monitor.note(Finding("gradient_spikes", "degraded", 1, "gradient norm 5e4 at step 1"))
        finish(trial)
    kept = read_json(tmp_path / "t" / "labels.json")
    assert [one["check"] for one in kept["degraded"]] == ["gradient_spikes"]
    assert set(kept) == {"minimum", "optimal", "degraded"} and kept["minimum"]["met"] is False
    provenance = read_json(tmp_path / "t" / "best" / "provenance.json")
    assert [one["check"] for one in provenance["labels"]["degraded"]] == ["gradient_spikes"]

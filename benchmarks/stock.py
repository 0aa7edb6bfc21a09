"""Arm 0, the usual recipe: one process per trial, PEFT with its default k-bit preparation, the Trainer of transformers.

Rows, their order, rates, steps and evals are those of the other arms; a trial stops at the step where theirs stopped.
As a module it runs one trial of a shape (`one`), or all trials of a recorded sweep under Ray Tune (`sweep`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run
from trainables.errors import InfrastructureError
from trainables.io.files import read_json, write_json
from trainables.record import Record
from trainables.spec import TrialSpec, read_spec

if TYPE_CHECKING:
    from trainables.data.encoding import Encoded
    from trainables.engine import Engine
    from trainables.model.base import Base


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def train(engine: Engine, spec: TrialSpec, scratch: Path, stop_step: int) -> dict[str, Any]:
    """Train one trial by the stock recipe up to `stop_step`, an eval every `eval_every_steps`; returns its figures.

    A trial without an adapter evaluates the base once.
    """
    import torch

    from benchmarks.timing import now, peak_mb

    device = engine.base.device
    if spec.placement.is_baseline:
        began = now(device)
        scores, _ = engine.evaluator.measure(None)
        return {"metrics": scores.metrics, "eval_seconds": now(device) - began}
    torch.manual_seed(spec.seed)
    model = _prepared(engine.base, spec)
    watch = _watch(engine, spec, stop_step)
    trainer = _trainer(model, engine, spec, scratch, watch)
    began = now(device)
    trainer.train()
    return {
        "training_seconds": now(device) - began - sum(watch.eval_seconds),
        "step_seconds": watch.step_seconds[1:],
        "eval_seconds": sum(watch.eval_seconds),
        "losses": [one["loss"] for one in trainer.state.log_history if "loss" in one],
        "peak_mb": peak_mb(device),
        "untrained": watch.untrained,
        "metrics": watch.metrics,
    }


def _prepared(base: Base, spec: TrialSpec) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    from trainables.model.placement import resolve

    model = prepare_model_for_kbit_training(base.model)
    if spec.quantization == "none":  # the preparation skips an unquantized base, so the same steps are done here
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={})
    config = LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, use_rslora=spec.rslora,  # type: ignore[arg-type]
        target_modules=list(resolve(spec.placement, base.towers).module_names), task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, config)


def _trainer(model: Any, engine: Engine, spec: TrialSpec, scratch: Path, watch: Any) -> Any:
    import torch
    from transformers import Trainer, TrainingArguments

    from trainables.data.encoding import collate, data_order
    from trainables.schedule import rate_factor

    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rates = {False: spec.learning_rate, True: spec.vision_learning_rate}
    groups = [{"params": [p for name, p in named if (".visual." in name) == sees], "lr": rate}
              for sees, rate in rates.items()]  # fmt: skip
    adamw = torch.optim.AdamW([one for one in groups if one["params"]], betas=(0.9, spec.adam_beta2),
                              weight_decay=spec.weight_decay)  # fmt: skip
    factor = lambda step: rate_factor(step, spec.steps, spec.warmup_ratio, spec.min_rate_ratio)  # noqa: E731
    order = islice(data_order(len(engine.train), spec.data_seed), spec.steps * spec.effective_rows)
    rows = [engine.encode(index, spec.max_tokens) for index in order]

    def batch(encoded: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        made = collate(encoded, engine.encoder, torch.device("cpu"), pad_left=False)
        return {**made.inputs, "labels": made.labels}

    on_gpu = engine.base.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(scratch), max_steps=spec.steps, per_device_train_batch_size=spec.batch_rows,
        gradient_accumulation_steps=spec.accumulation_steps, max_grad_norm=spec.max_gradient_norm,
        train_sampling_strategy="sequential", use_cpu=not on_gpu, bf16=on_gpu, logging_steps=1, save_strategy="no",
        report_to=[], remove_unused_columns=False, disable_tqdm=True, dataloader_pin_memory=False, seed=spec.seed,
    )  # fmt: skip
    return Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=batch, callbacks=[watch],  # type: ignore[arg-type]
        optimizers=(adamw, torch.optim.lr_scheduler.LambdaLR(adamw, factor)),
    )  # fmt: skip


def _watch(engine: Engine, spec: TrialSpec, stop_step: int) -> Any:
    from transformers import TrainerCallback

    from benchmarks.timing import now

    class Watch(TrainerCallback):
        """Times steps, counts adapter tensors without a gradient, and evaluates as often as the other arms do."""

        def __init__(self) -> None:
            self.step_seconds: list[float] = []
            self.eval_seconds: list[float] = []
            self.untrained, self.metrics, self.began = 0, {}, math.nan

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = now(engine.base.device)

        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            self.untrained = sum(p.grad is None for p in model.parameters() if p.requires_grad)

        def on_step_end(self, _: Any, state: Any, control: Any, *, model: Any, **__: Any) -> None:
            self.step_seconds.append(now(engine.base.device) - self.began)
            if state.global_step % spec.eval_every_steps == 0 or state.global_step == stop_step:
                began = now(engine.base.device)
                model.eval()
                self.metrics = engine.evaluator.measure(None)[0].metrics
                model.train()
                self.eval_seconds.append(now(engine.base.device) - began)
            control.should_training_stop = state.global_step >= stop_step

    return Watch()


def fresh_trial(spec: TrialSpec, base: Base, scratch: Path, stop_step: int, began: float) -> dict[str, Any]:
    """Train one trial on a base loaded for it; `began` is the start of its process in seconds of `perf_counter`."""
    from trainables.engine import Engine

    engine = Engine.on(base, spec)
    loaded = time.perf_counter() - began
    return {"name": spec.name, "load_seconds": loaded, **train(engine, spec, scratch, stop_step)}


@app.command()
def one(shape: str, spec: Path, out: Path, threads: int) -> None:
    """Train the trial of a spec file by the stock recipe, and write its figures."""
    began = time.perf_counter()
    import torch

    from benchmarks.shapes import SHAPES

    torch.set_num_threads(threads)
    trial = read_spec(read_json(spec))
    base = SHAPES[shape].load(trial.base.path, trial)
    write_json(out, fresh_trial(trial, base, out.parent / "trainer", trial.steps, began))


@app.command()
def sweep(
    trials: Path, out: Path, at_once: Annotated[int, typer.Option(help="Trials at a time, one core each.")] = 2
) -> None:
    """Train every trial with a record below `trials` again, under Ray Tune, up to the step where it ended."""
    import ray
    from ray import tune

    from sweeps.execution.ray_session import loopback_alone
    from sweeps.execution.ray_token import protect_token
    from trainables.record import records_under

    records = records_under(trials)
    protect_token(makes_missing=True)
    with loopback_alone():
        ray.init(include_dashboard=False, log_to_driver=False, num_cpus=at_once)
    tuner = tune.Tuner(
        tune.with_resources(_tuned, {"cpu": 1}),
        param_space={"record": tune.grid_search([str(record.home) for record in records]), "out": str(out)},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
        run_config=tune.RunConfig(name="stock", storage_path=str(out / "ray"), verbose=0),
    )
    failed = [result.error for result in tuner.fit() if result.error]
    if failed:
        raise InfrastructureError(f"every stock trial must train, but {len(failed)} did not: {failed[0]}")
    typer.echo(json.dumps({"trials": len(records)}))


def _tuned(config: dict[str, Any]) -> None:
    began = time.perf_counter()
    import torch
    from ray import tune

    from trainables.model.base import default_device, load_base

    torch.set_num_threads(1)
    record, out = Record(Path(config["record"])), Path(config["out"])
    spec, verdict = record.spec(), record.verdict()
    base = load_base(spec.base.path, spec.quantization, spec.compute_dtype, default_device())
    stop_step = verdict.step if verdict else spec.steps
    found = fresh_trial(spec, base, out / "trainer" / record.name, stop_step, began)
    write_json(out / f"{record.name}.json", found)
    tune.report({"exact_match": found["metrics"]["exact_match"]})


if __name__ == "__main__":
    run(app)

"""Failures that must be found before the first training step: wrong modules, parameters, batches or weights."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

from tests.corpus.bench import Injection
from tests.corpus.tools import cut_graph, hook, replace
from trainables.spec import Placement

if TYPE_CHECKING:
    from tests.corpus.bench import Bench


def _freeze(trial: Any, _: ExitStack) -> None:
    for _, parameter in trial.adapter.trained():
        parameter.requires_grad_(False)


def _prepare_again(trial: Any, _: ExitStack) -> None:
    from peft import prepare_model_for_kbit_training

    prepare_model_for_kbit_training(trial.adapter.peft_model, use_gradient_checkpointing=False)


def _add_adapter(trial: Any, _: ExitStack) -> None:
    trial.adapter.peft_model.add_adapter("stage2", trial.adapter.peft_model.peft_config["default"])


def _reentrant_layers(bench: Bench, stack: ExitStack) -> None:
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    for layer in bench.engine.base.model.model.language_model.layers:

        def recomputed(hidden: Any, *arguments: Any, original: Any = layer.forward, **keywords: Any) -> Any:
            return checkpoint(partial(original, **keywords), hidden, *arguments, use_reentrant=True)

        replace(stack, layer, "forward", recomputed)


def _reentrant_model_with_text_hook(bench: Bench, stack: ExitStack) -> None:
    model = bench.engine.base.model
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    stack.callback(model.gradient_checkpointing_disable)
    hook(stack, model.get_input_embeddings(), lambda module, inputs, keywords, output: output.requires_grad_(True))


def _wrap_other_modules(stack: ExitStack, change: Any) -> None:
    from trainables.model import lora as adapters

    original = adapters.get_peft_model

    def wrapped(model: Any, config: Any) -> Any:
        change(config)
        return original(model, config)

    replace(stack, adapters, "get_peft_model", wrapped)


def _one_target_less(_: Bench, stack: ExitStack) -> None:
    _wrap_other_modules(stack, lambda config: config.target_modules.pop())


def _all_linear(_: Bench, stack: ExitStack) -> None:
    def change(config: Any) -> None:
        config.target_modules = {"q_proj", "k_proj", "v_proj", "o_proj", "qkv", "proj", "linear_fc1", "linear_fc2"}

    _wrap_other_modules(stack, change)


def _layer_filter(_: Bench, stack: ExitStack) -> None:
    def change(config: Any) -> None:
        config.target_modules, config.layers_to_transform = {"q_proj", "qkv"}, [7]

    _wrap_other_modules(stack, change)


def _encode(stack: ExitStack, change: Any) -> None:
    from trainables.engine import Engine

    original = Engine.encode
    replace(stack, Engine, "encode", lambda engine, index, tokens: change(engine, original(engine, index, tokens)))


def _mask_all_labels(_: Bench, stack: ExitStack) -> None:
    _encode(stack, lambda engine, row: changed(row, labels=[-100] * len(row.labels)))


def _supervise_everything(_: Bench, stack: ExitStack) -> None:
    _encode(stack, lambda engine, row: changed(row, labels=list(row.tokens)))


def _cut_image_tokens(_: Bench, stack: ExitStack) -> None:
    def change(engine: Any, row: Any) -> Any:
        at = row.tokens.index(engine.encoder.image_token_id)
        return changed(
            row, tokens=row.tokens[:at] + row.tokens[at + 1 :], labels=row.labels[:at] + row.labels[at + 1 :]
        )

    _encode(stack, change)


def _overflow(trial: Any, stack: ExitStack) -> None:
    def half(module: Any, inputs: Any, keywords: Any, output: Any) -> Any:
        import torch

        return (output * 1e6).to(torch.float16).to(output.dtype)

    hook(stack, trial.engine.base.model.model.language_model.norm, half)


def _nan_where_padded(trial: Any, stack: ExitStack) -> None:
    def masked(module: Any, inputs: Any, keywords: Any, output: Any) -> Any:
        padded = (keywords["attention_mask"] == 0).any(dim=1)[:, None, None]
        output.last_hidden_state = output.last_hidden_state.masked_fill(padded, float("nan"))
        return output

    hook(stack, trial.engine.base.model.model, masked)


def _own_rate(trial: Any, stack: ExitStack) -> None:
    adamw = trial.optimizer.adamw
    original = adamw.step

    def step() -> None:
        rates = [group["lr"] for group in adamw.param_groups]
        for group in adamw.param_groups:
            group["lr"] = 1e-5
        original()
        for group, rate in zip(adamw.param_groups, rates, strict=True):
            group["lr"] = rate

    replace(stack, adamw, "step", step)


def _four_processes(_: Bench, stack: ExitStack) -> None:
    from trainables.model import optimizer as optim

    original = optim.rate_factor
    replace(stack, optim, "rate_factor", lambda step, *schedule: original(4 * step, *schedule))


def _freeze_half(trial: Any, _: ExitStack) -> None:
    for _, parameter in trial.adapter.trained()[::2]:
        parameter.requires_grad_(False)


def _changed_in_place(trial: Any, stack: ExitStack) -> None:
    def change(module: Any, inputs: Any, keywords: Any, output: Any) -> None:
        inputs[0].mul_(1.0)  # which its backward still needs

    name, _ = trial.adapter.trained()[1]
    hook(stack, trial.adapter.peft_model.get_submodule(name.removesuffix(".weight")), change)


def _dead_four_bit(trial: Any, stack: ExitStack) -> None:
    cut_graph(stack, trial.engine.base.model.model.language_model.layers[7])


LANGUAGE = {"placement": Placement(language=2)}

INJECTIONS = (
    Injection("F01", "adapter frozen after it was placed", ("trainable_set",), 0, after=_freeze),
    Injection("F02", "base prepared again over the adapter", ("trainable_set",), 0, after=_prepare_again),
    Injection("F03", "second adapter on the first", ("adapters",), 0, after=_add_adapter),
    Injection("F04", "reentrant checkpointing over frozen embeddings", ("zero_gradient",), 0,
              before=_reentrant_layers, changes=LANGUAGE),
    Injection("F05", "input hook on text only, vision without gradient", ("zero_gradient",), 0,
              before=_reentrant_model_with_text_hook),
    Injection("F06", "one target module matches nothing", ("placement",), 0, before=_one_target_less),
    Injection("F07", "short names also match the other tower", ("placement",), 0, before=_all_linear),
    Injection("F08", "layer filter matches too little", ("placement",), 0, before=_layer_filter),
    Injection("F10", "truncation left no label", ("supervised_tokens",), 0, before=_mask_all_labels),
    Injection("F11", "template supervises everything", ("supervised_tokens",), 0, before=_supervise_everything),
    Injection("F12", "half precision overflows", ("non_finite_loss",), 0, after=_overflow),
    Injection("F13", "NaN in padded rows only", ("non_finite_loss",), 0, after=_nan_where_padded),
    Injection("F18", "schedule stepped once per process", ("rate",), 0, before=_four_processes),
    Injection("F19", "the optimizer follows a rate of its own", ("unmoved",), 0, after=_own_rate),
    Injection("F25", "half of the adapter lost its gradients after an upgrade", ("trainable_set",), 0,
              after=_freeze_half),
    Injection("F30", "a cut row: image tokens and features differ", ("image_tokens",), 0, before=_cut_image_tokens),
    Injection("F35", "4-bit base that passes no gradient", ("zero_gradient",), 0, after=_dead_four_bit,
              quantization="nf4-double"),
    Injection("F36", "what backward needs is changed in place, so it raises", ("probe_step",), 0,
              after=_changed_in_place),
)  # fmt: skip

"""Plants failures in a trial: a hook on a module, a patched function, a changed gradient."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from trainables.engine import Engine


FIT_STEPS, FIT_RATE = 15, 3e-3
Weights = list[tuple[Any, Any]]


def replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Replace an attribute until the trial has ended."""
    stack.enter_context(patch.object(owner, name, value))


def hook(stack: ExitStack, module: Any, change: Callable[..., Any]) -> None:
    """Change the output of a module: `change(module, inputs, keywords, output)`."""
    handle = module.register_forward_hook(change, with_kwargs=True)
    stack.callback(handle.remove)


def cut_graph(stack: ExitStack, module: Any) -> None:
    """Cut the gradient at a module, as a reentrant checkpoint or a kernel without autograd does."""

    def change(_: Any, inputs: Any, keywords: Any, output: Any) -> Any:
        return (output[0].detach(), *output[1:]) if isinstance(output, tuple) else output.detach()

    hook(stack, module, change)


def change_losses(stack: ExitStack, change: Callable[[int, Any], Any]) -> None:
    """Change training losses before backward: `change(number of the micro-batch from 1, loss)`."""
    from trainables.training import gradients as gradients_module

    original, count = gradients_module.cross_entropy, iter(range(1, 10_000))

    def changed(*arguments: Any, **keywords: Any) -> Any:
        return change(next(count), original(*arguments, **keywords))

    replace(stack, gradients_module, "cross_entropy", changed)


def change_gradients(trial: Any, stack: ExitStack, change: Callable[[int, Any], Any]) -> None:
    """Change gradients before they reach the adapter: `change(step from 1, gradient)`; the self-test runs in step 1."""

    def changed(gradient: Any) -> Any:
        return change(trial.progress.step + 1, gradient)

    for _, parameter in trial.adapter.trained():
        stack.callback(parameter.register_hook(changed).remove)


def fit(engine: Engine) -> Weights:
    """Fit the whole base to the rows of validation and put it back; returns each parameter with its fitted values."""
    import torch
    from torch.nn.functional import cross_entropy

    from trainables.data.encoding import collate
    from trainables.evaluation.evaluator import label_logits

    base, own = engine.base, [(p, p.detach().clone()) for p in engine.base.model.parameters()]
    batch = collate(engine.evaluator.validation, engine.encoder, base.device, pad_left=False)
    base.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(base.model.parameters(), lr=FIT_RATE, weight_decay=0.0)
    for _ in range(FIT_STEPS):
        cross_entropy(*label_logits(base, batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
    base.model.requires_grad_(False)
    fitted = [(p, p.detach().clone()) for p in base.model.parameters()]
    put(own)
    return fitted


def put(weights: Weights) -> None:
    """Write values into their parameters."""
    for parameter, values in weights:
        parameter.data.copy_(values)

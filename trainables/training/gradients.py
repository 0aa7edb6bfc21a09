"""The forward and backward of one optimizer step of a trial that is alone on the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.nn.functional import cross_entropy

from trainables.data.encoding import Batch
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.memory_file import Fit
from trainables.model.base import Base
from trainables.model.lora import Adapter
from trainables.training.batch_parts import parts_of


def backward_alone(engine: Engine, adapter: Adapter, step: int, batches: Sequence[Batch], fit: Fit) -> float:
    """Add up the gradients of a step; return its loss, the mean over all supervised tokens.

    The loss is that of the whole step, so it depends neither on `accumulation_steps` nor on `fit`.
    """
    model, masks = engine.base.model, adapter.masks
    tokens = sum(batch.supervised_tokens for batch in batches)
    loss_sum = 0.0
    with ExitStack() as stack:
        stack.callback(model.eval)
        stack.callback(setattr, masks, "shares", None)
        if fit.checkpointing:
            stack.enter_context(checkpointing(model))
        model.train()
        for number, batch in enumerate(batches):
            for part in parts_of(batch, fit.parts, engine.encoder, engine.base):
                masks.step, masks.micro_step, masks.shares = step, number, part.shares
                logits, targets = label_logits(engine.base, part.batch)
                loss = cross_entropy(logits, targets, reduction="sum") / tokens
                if loss.requires_grad:  # false if the rows are text and only the vision tower has adapters
                    loss.backward()
                loss_sum += float(loss.detach())
    return loss_sum


def can_checkpoint(base: Base) -> bool:
    """True when transformers can compute the activations of this model's layers again in the backward."""
    return bool(getattr(base.model, "supports_gradient_checkpointing", False))


@contextmanager
def checkpointing(model: Any) -> Iterator[None]:
    """Compute the activations of each layer again in the backward, instead of keeping them, within the block."""
    # without reentrance the inputs of a layer need no gradient, which those below the lowest adapter have not
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.disable_input_require_grads()  # which transformers turns on, and leaves on: all layers would have gradients
    try:
        yield
    finally:
        model.activation_checkpointing_disable()

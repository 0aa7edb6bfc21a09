"""A pass of several trials against each trial alone, beside the drift of another batch shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.device.budget import Values
from benchmarks.device.modes import ROWS, miniature_batches
from benchmarks.device.training import Device, Member, backward, gradients, opened, placed, relative, trial_spec
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch
from trainables.evaluation.evaluator import label_logits
from trainables.mini import BASE_DIRECTORY
from trainables.model.base import Base, load_base
from trainables.spec import Quantization

MODES: tuple[Quantization, ...] = ("nf4-double", "nf4", "none")
DEPTHS = ((1, 0), (2, 0), (0, 2), (2, 3))  # language and vision of each trial
OTHER_ROWS = (1, 2)  # rows of a micro-batch, instead of all in one
WITHIN = 3.0  # times the drift of another batch shape, which itself varies from batch to batch

FLOAT32_ROUNDING = 1e-5  # of another order of products and sums, relative


def measure(device: Device) -> Iterator[Values]:
    """Yield a row for each quantization and trial."""
    rows: list[list[Any]] = []
    for quantization in MODES[:1] if device.is_small else MODES:
        rows += compared(device, quantization)
        yield {"tables": [_table(rows)]}


def compared(device: Device, quantization: Quantization) -> list[list[Any]]:
    """Compare the gradients of each trial in one pass of all with those of the trial alone on PEFT's modules."""
    base = load_base(BASE_DIRECTORY, quantization, "auto", device.device, "quantized")
    whole, apart = miniature_batches(base, ROWS), [miniature_batches(base, rows) for rows in OTHER_ROWS]
    specs = [trial_spec(*one, seed=n, dropout=0.0) for n, one in enumerate(DEPTHS)]
    members, rows = opened(base, specs), []
    shared = SharedForward(base, [one.adapter for one in members])
    losses = backward(shared, members, whole[0])
    packed = [gradients(one) for one in members]
    shared.remove()
    for number, spec in enumerate(specs):
        member = placed(base, spec)
        loss, own = alone(base, member, whole)
        others = [alone(base, member, batches) for batches in apart]
        member.adapter.remove()
        difference = relative(packed[number], own)
        drift = max(relative(other, own) for _, other in others)
        rows.append([
            quantization, str(spec.placement), abs(float(losses[number]) - loss),
            max(abs(other - loss) for other, _ in others), difference, drift,
            "yes" if difference <= max(WITHIN * drift, FLOAT32_ROUNDING) else "NO",
        ])  # fmt: skip
    return rows


def alone(base: Base, member: Member, batches: Sequence[Batch]) -> tuple[float, torch.Tensor]:
    """Run a trial whose adapter is on the base; return its mean loss over all batches, and its gradients."""
    tokens, total = sum(batch.supervised_tokens for batch in batches), 0.0
    for batch in batches:
        logits, targets = label_logits(base, batch)
        loss = cross_entropy(logits, targets, reduction="sum") / tokens
        loss.backward()
        total += float(loss.detach())
    return total, gradients(member)


def _table(rows: list[list[Any]]) -> Values:
    return {
        "title": f"{len(DEPTHS)} trials of the miniature in one pass against each alone",
        "header": ["quantization", "trial", "loss", "loss, other shapes", "gradients, relative",
                   "gradients, other shapes", f"within {WITHIN:g} times the drift"],
        "rows": list(rows),
    }  # fmt: skip

"""A pass of several trials against each trial alone, beside the drift of another batch shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.device.budget import Values
from benchmarks.device.modes import miniature_batch
from benchmarks.device.training import Device, backward, gradients, opened, relative, trial_spec
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch
from trainables.mini import BASE_DIRECTORY
from trainables.model.base import load_base
from trainables.spec import Quantization

MODES: tuple[Quantization, ...] = ("nf4-double", "nf4", "none")
DEPTHS = ((1, 0), (2, 0), (0, 2), (2, 3))  # language and vision of each trial
WITHIN = 3.0  # times the drift of another batch shape, which itself varies from batch to batch


def measure(device: Device) -> Iterator[Values]:
    """Yield a row for each quantization and trial."""
    rows: list[list[Any]] = []
    for quantization in MODES:
        rows += compared(device, quantization)
        yield {"tables": [_table(rows)]}


def compared(device: Device, quantization: Quantization) -> list[list[Any]]:
    """Compare the gradients of each trial in one pass of all with those of the trial alone."""
    base = load_base(BASE_DIRECTORY, quantization, "auto", device.device, "quantized")
    batch, specs = miniature_batch(base), [trial_spec(*one, seed=n, dropout=0.0) for n, one in enumerate(DEPTHS)]
    members, rows = opened(base, specs), []
    shared = SharedForward(base, [one.adapter for one in members])
    losses = backward(shared, members, batch)
    packed = [gradients(one) for one in members]
    shared.remove()
    for number, member in enumerate(members):
        alone = SharedForward(base, [member.adapter])
        loss, own = backward(alone, [member], batch), gradients(member)
        other_loss, other = backward(alone, [member], doubled(batch)), gradients(member)
        alone.remove()
        difference, drift = relative(packed[number], own), relative(other, own)
        rows.append([
            quantization, str(specs[number].placement),
            float((losses[number] - loss[0]).abs()), float((other_loss - loss).abs()), difference, drift,
            "yes" if difference <= WITHIN * drift + torch.finfo(torch.float32).eps else "NO",
        ])  # fmt: skip
    return rows


def doubled(batch: Batch) -> Batch:
    """Return a batch with every row twice, which has the same mean loss."""
    return Batch({name: torch.cat([one, one]) for name, one in batch.inputs.items()},
                 torch.cat([batch.labels, batch.labels]))  # fmt: skip


def _table(rows: list[list[Any]]) -> Values:
    return {
        "title": f"{len(DEPTHS)} trials of the miniature in one pass against each alone",
        "header": ["quantization", "trial", "loss", "loss, batch doubled", "gradients, relative",
                   "gradients, batch doubled", f"within {WITHIN:g} times the drift"],
        "rows": list(rows),
    }  # fmt: skip

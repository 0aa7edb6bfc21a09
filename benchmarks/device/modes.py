"""Every quantization forward and backward, bitsandbytes' fused kernels, and dequantized weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.device.budget import Values
from benchmarks.device.training import Device, gradients, placed, relative, trial_spec
from trainables.data.encoding import Batch
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.model.base import Base, load_base
from trainables.model.quantization import FOUR_BIT, QUANTIZATION_TABLE
from trainables.model.residency import ResidencyChoice
from trainables.spec import QUANTIZATIONS, Quantization

ROWS = 4
TOKENS = (1, 8, 16, 32, 64, 256, 1024)
WIDTHS = (2560, 9728)  # of Qwen3-VL-4B: hidden and feed-forward


@dataclass(frozen=True)
class Computed:
    """The loss, the gradients and the logits without a gradient of one base on one batch."""

    loss: float
    gradients: torch.Tensor
    logits: torch.Tensor

    @property
    def is_finite(self) -> bool:
        """True when every value is finite."""
        return bool(self.gradients.isfinite().all()) and bool(self.logits.isfinite().all())


def measure(device: Device) -> Iterator[Values]:
    """Yield the tables of this section, one more each time."""
    tables: list[Values] = []
    computed: dict[str, Computed] = {}
    rows: list[list[Any]] = []
    for quantization in QUANTIZATIONS:
        one = computed[quantization] = run_mode(device, quantization, "quantized")
        known = computed["none"]
        rows.append([quantization, one.loss, abs(one.loss - known.loss), relative(one.gradients, known.gradients),
                     "yes" if one.is_finite else "NO"])  # fmt: skip
        yield {"tables": [_modes_table(rows)]}
    tables.append(_modes_table(rows))
    tables.append(_resident_table(device, computed))
    yield {"tables": tables}
    tables.append(_kernel_table(device))
    yield {"tables": tables}


def run_mode(device: Device, quantization: Quantization, resident: ResidencyChoice) -> Computed:
    """Load the miniature in one mode, and run it with an adapter in both towers."""
    from trainables.evaluation.evaluator import label_logits

    base = load_base(BASE_DIRECTORY, quantization, "auto", device.device, resident)
    batch, member = miniature_batch(base), placed(base, trial_spec(2, 2, dropout=0.0))
    logits, targets = label_logits(base, batch)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    found = gradients(member)
    with torch.no_grad():
        without_gradient = label_logits(base, batch)[0]
    member.adapter.remove()
    return Computed(float(loss.detach()), found, without_gradient)


def miniature_batch(base: Base) -> Batch:
    """Return a batch of the miniature's rows, with their pictures."""
    return miniature_batches(base, ROWS)[0]


def miniature_batches(base: Base, batch_rows: int) -> list[Batch]:
    """Return the same few rows of the miniature in batches of `batch_rows`."""
    from trainables.data.encoding import Encoder, collate
    from trainables.data.rows import read_rows

    encoder = Encoder(base)
    encoded = [encoder.conversation(row) for row in read_rows(_row_files()[1])]
    parts = (encoded[start : start + batch_rows] for start in range(0, ROWS, batch_rows))
    return [collate(one, encoder, base.device, pad_left=False) for one in parts]


@cache
def _row_files() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Write rows and pictures once; the directory is removed when the process ends."""
    from benchmarks.rows import Amounts, write

    directory = tempfile.TemporaryDirectory()
    return directory, write(Path(directory.name), Amounts(train=ROWS))["train"].path


def _modes_table(rows: list[list[Any]]) -> Values:
    return {
        "title": "Every quantization of the miniature, forward and backward",
        "header": ["quantization", "loss, nats", "loss from `none`", "gradients from `none`, relative", "finite"],
        "rows": list(rows),
    }


def _resident_table(device: Device, computed: dict[str, Computed]) -> Values:
    rows: list[list[Any]] = []
    for quantization in QUANTIZATIONS:
        if quantization == "none":
            continue
        try:
            one = run_mode(device, quantization, "dequantized")
        except UserError as error:
            rows.append([quantization, "refused", "refused", str(error.message)[:60] + " …"])
            continue
        known = computed[quantization]
        rows.append([quantization, abs(one.loss - known.loss), relative(one.gradients, known.gradients),
                     relative(one.logits, known.logits)])  # fmt: skip
    return {
        "title": "`--resident dequantized` against `quantized`",
        "header": ["quantization", "loss", "gradients, relative", "logits without a gradient, relative"],
        "rows": rows,
    }


def _kernel_table(device: Device) -> Values:
    """Compare bitsandbytes' product without a gradient to dequantize-then-multiply, by the tokens of a batch."""
    from bitsandbytes.functional import dequantize_4bit

    inner, outer = (128, 256) if device.is_small else WIDTHS
    rows: list[list[Any]] = []
    for quantization in FOUR_BIT[:1] if device.is_small else FOUR_BIT:
        layer = _linear(quantization, inner, outer, device)
        held: Any = layer.weight
        weight = dequantize_4bit(held.data, held.quant_state).to(device.dtype)
        for tokens in TOKENS:
            inputs = torch.randn(tokens, inner, device=device.device).to(device.dtype)
            with torch.no_grad():
                fused, multiplied = layer(inputs), inputs @ weight.T
                wider = (torch.cat([inputs, inputs]) @ weight.T)[:tokens]
            tracked = layer(inputs.clone().requires_grad_())
            rows.append([quantization, tokens, relative(fused, multiplied), relative(tracked.detach(), multiplied),
                         relative(wider, multiplied)])  # fmt: skip
    return {
        "title": f"A 4-bit linear of {inner} inputs and {outer} outputs against dequantize-then-multiply, relative",
        "header": ["quantization", "tokens", "without a gradient", "with one", "drift of a batch twice as large"],
        "rows": rows,
    }


def _linear(quantization: Quantization, inner: int, outer: int, device: Device) -> Any:
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    facts = QUANTIZATION_TABLE[quantization]
    layer = Linear4bit(
        inner, outer, bias=False, compute_dtype=device.dtype, quant_type=facts.kind,
        compress_statistics=facts.double_quantization,
    )  # fmt: skip
    fresh: Any = Params4bit
    values = torch.empty(outer, inner).normal_(std=0.02)
    layer.weight = fresh(values, requires_grad=False, quant_type=facts.kind, module=layer,
                         compress_statistics=facts.double_quantization)  # fmt: skip
    layer.support_avx512bf16_for_cpu = False
    return layer.to(device.device)

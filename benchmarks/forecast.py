"""Compares the forecast of a training pass with what it took: peak of live tensors, and seconds.

python -m benchmarks.forecast --shape mini                  the miniature on its own rows
python -m benchmarks.forecast --shape deep
python -m benchmarks.forecast --base DIR --train FILE       a base of your own, as SmolLM2

Seconds are forecast by the speed of the first arm alone, so that they test how FLOPs compare between arms. Nothing is
asserted: docs/forecast.md has the tables, tests/sweeps/planning/test_step_memory.py the bound for memory.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run

if TYPE_CHECKING:
    from trainables.data.encoding import Batch
    from trainables.model.base import Base
    from trainables.spec import TrialSpec

ARMS = ((2, 0), (4, 0), (0, 4), (2, 4))  # layers of language and vision
REPEATS = 3


class Pass:
    """Trials on one base whose passes are measured; `remove` takes their adapters off."""

    def __init__(self, base: Base, specs: Sequence[TrialSpec], batch: Batch) -> None:
        from trainables.cohort.shared_forward import SharedForward
        from trainables.model.lora import place
        from trainables.model.optimizer import Optimizer
        from trainables.model.placement import resolve

        self.base, self.specs, self.batch = base, specs, batch
        self.adapters = []
        for spec in specs:
            self.adapters.append(place(base, spec, resolve(spec.placement, base.towers, spec.target_modules)))
            self.adapters[-1].remove()
        self.optimizers = [Optimizer(one, spec) for one, spec in zip(self.adapters, specs, strict=True)]
        self.shared = SharedForward(base, self.adapters)

    def run(self) -> None:
        """Run forward and backward of all trials once, as a cohort does."""
        import torch
        from torch.nn.functional import cross_entropy

        with self.shared.lora.in_training():
            out = self.shared.logits(self.batch, range(len(self.specs)))
            tokens = self.batch.supervised_tokens
            means = [cross_entropy(one, out.targets, reduction="sum") / tokens for one in out.values]
            if reached := [one for one in means if one.requires_grad]:
                torch.stack(reached).sum().backward()

    def peak_bytes(self) -> int:
        """Return the peak of live tensor bytes of a pass that adds to gradients, when AdamW has its moments."""
        from trainables.model.checksums import base_tensors
        from trainables.model.live_bytes import LiveBytes

        held = [tensor for _, tensor in base_tensors(self.base.model)]
        held += [parameter for one in self.adapters for _, parameter in one.trained()]
        with LiveBytes([*held, *self.batch.inputs.values(), self.batch.labels]) as live:
            self.run()
            for one in self.optimizers:
                one.step(1)
            self.run()
            live.peak = live.now
            self.run()
        return live.peak

    def seconds(self) -> float:
        """Return the processor seconds of a pass."""
        began = time.process_time()
        self.run()
        return time.process_time() - began


def forecast_bytes(base: Base, specs: Sequence[TrialSpec], batch: Batch) -> int:
    """Return the forecast of `Pass.peak_bytes`."""
    from sweeps.planning.resources import model_shape
    from sweeps.planning.step_memory import PassMember, PassShape, adapter_bytes, graph_bytes
    from sweeps.planning.weight_memory import weight_memory
    from trainables.model.placement import resolve
    from trainables.model.stored_base import read_base

    stored, value_bytes = read_base(base.path), base.model.dtype.itemsize
    model = model_shape(stored, value_bytes)
    members = [
        PassMember(frozenset(resolve(one.placement, base.towers, one.target_modules).module_names), one.rank,
                   one.dropout > 0) for one in specs
    ]  # fmt: skip
    lines, tokens = batch.labels.shape
    shape = PassShape(lines, tokens, batch.supervised_tokens, int(batch.is_supervised.sum(1).max()),
                      len(batch.inputs.get("pixel_values", ())))  # fmt: skip
    dequantized = base.residency == "dequantized"
    weights = weight_memory(stored, specs[0].quantization, value_bytes, dequantized)
    return weights.total + weights.cast + adapter_bytes(model, members) + graph_bytes(model, members, shape)


def specs_of(base: Path, arms: Sequence[tuple[int, int]], quantization: str = "none") -> list[TrialSpec]:
    """Return one trial for each placement, with files that nothing reads."""
    from trainables.spec import Placement, Source, TrialSpec

    unread = Source(path=base, sha256="")
    files: dict[str, Any] = dict.fromkeys(("base", "train", "validation", "ood"), unread)
    return [
        TrialSpec(name=f"L{language}-V{vision}", arm="arm", placement=Placement(language=language, vision=vision),
                  quantization=quantization, seed=number, **files)  # type: ignore[arg-type]
        for number, (language, vision) in enumerate(arms)
    ]  # fmt: skip


def main(
    shape: Annotated[str, typer.Option(help="mini or deep; or give --base and --train.")] = "mini",
    base: Annotated[Path | None, typer.Option(help="Directory of a base.")] = None,
    train: Annotated[Path | None, typer.Option(help="Its training rows.")] = None,
    rows: Annotated[int, typer.Option(help="Rows of a pass.", min=1)] = 8,
) -> None:
    """Print one line for each arm: forecast and measured memory, forecast and measured processor seconds."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        for line in compared(*_prepared(shape, base, train, Path(scratch)), rows):
            typer.echo(line)


def _prepared(shape: str, base: Path | None, train: Path | None, scratch: Path) -> tuple[Path, Path]:
    from benchmarks.shapes import SHAPES, prepared

    if base is not None and train is not None:
        return base, train
    settings = prepared(SHAPES[shape], scratch, 1)
    return settings["base"].path, settings["train"].path


def compared(path: Path, train: Path, rows: int) -> list[str]:
    """Measure every arm that fits the base, seconds interleaved; return the lines of a table."""
    import torch

    from sweeps.planning.forecast import forecast
    from trainables.data.encoding import Encoder, collate
    from trainables.data.rows import read_rows
    from trainables.model.base import load_base

    base = load_base(path, "none", "float32", torch.device("cpu"))
    encoder = Encoder(base)
    batch = collate(
        [encoder.conversation(one) for one in read_rows(train)[:rows]], encoder, base.device, pad_left=False
    )
    specs = [one for one in specs_of(path, ARMS) if base.family.sees or not one.placement.vision]
    passes = {spec.name: Pass(base, [spec], batch) for spec in specs}
    took = {name: min(one.seconds() for _ in range(REPEATS)) for name, one in passes.items()}
    costs = {one.spec.name: _flops(base, batch, one.spec) for one in forecast(specs, rows)}
    speed = costs[specs[0].name] / took[specs[0].name]
    lines = ["arm      forecast MB  measured MB        forecast s  measured s"]
    for spec in specs:
        said, held = forecast_bytes(base, [spec], batch) / 1e6, passes[spec.name].peak_bytes() / 1e6
        seconds = costs[spec.name] / speed
        lines.append(f"{spec.name:8} {said:11.1f}  {held:11.1f}  {said / held - 1:+6.1%}  {seconds:10.3f}  "
                     f"{took[spec.name]:10.3f}  {seconds / took[spec.name] - 1:+6.1%}")  # fmt: skip
    return lines


def _flops(base: Base, batch: Batch, spec: TrialSpec) -> float:
    weights = {tower: [sum(one.inputs * one.outputs for one in block) for block in base.towers[tower]]
               for tower in ("language", "vision")}  # fmt: skip
    tokens, patches = batch.labels.numel(), len(batch.inputs.get("pixel_values", ()))
    low = 0 if spec.placement.vision and patches else len(weights["language"]) - spec.placement.language
    low_vision = len(weights["vision"]) - spec.placement.vision
    head = 2 * base.embedding_rows * base.towers["language"][0][0].inputs * batch.supervised_tokens
    forward = sum(weights["language"]) * tokens + sum(weights["vision"]) * patches
    backward = sum(weights["language"][low:]) * tokens + sum(weights["vision"][low_vision:]) * patches
    return 2.0 * (forward + backward + head)


if __name__ == "__main__":
    run(main)

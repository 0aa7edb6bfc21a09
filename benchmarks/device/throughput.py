"""Tokens a second and memory by the tokens of a micro-batch and by what is shared, on random weights of 4B's sizes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.architecture import Architecture, Counts
from benchmarks.careful import train_step as careful_step
from benchmarks.device.budget import Values
from benchmarks.device.memory import predicted_mb
from benchmarks.device.training import Device, Member, opened, placed, random_batch, seconds_of, train_step, trial_spec
from benchmarks.families import modelled
from benchmarks.flops import APART, KEPT, SHARED, Cost, Way
from benchmarks.timing import begin_peak, peak_mb
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch, Encoder
from trainables.frozen.entry_memory import EntryMemory
from trainables.frozen.kept import KeptActivations
from trainables.frozen.store import Store
from trainables.model.base import Base
from trainables.model.residency import settle

LAYERS = 2  # adapted, the last ones
CAREFUL, SOLO = "careful solo", "solo"
STORE_BYTES = 4 * 2**30
# how much faster K = 4 to 16 packed trials should be than each alone, nothing shared, by tokens: launches and
# dequantization counted from the published peak of an H200, before anything was measured
PREDICTED = {256: "3.8–4.4", 512: "2.1–2.2", 1024: "1.13–1.17", 2048: "1.07–1.09"}
HEADER = (
    "tokens", "trials", "arm", "ms a step", "tokens a second", "over solo", "FLOP model's", "predicted", "of peak",
    "MB predicted", "MB seen",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What is measured: tokens of a micro-batch, tokens of one row, trials of a pass, and timed steps."""

    tokens: tuple[int, ...]
    row_tokens: int
    trials: tuple[int, ...]
    repeats: int


FULL, SMALL = Sizes((256, 512, 1024, 2048), 256, (4, 16), 3), Sizes((32, 64), 32, (2,), 1)


@dataclass(frozen=True)
class Packed:
    """How the trials of a pass share it, and how the FLOP model calls this."""

    name: str
    way: Way
    share: bool = True
    is_kept: bool = False


PACKED = (Packed("packed", APART, share=False), Packed("packed + shared trunk", SHARED))
KEPT_ACTIVATIONS = Packed("+ kept activations", KEPT, is_kept=True)


def measure(device: Device) -> Iterator[Values]:
    """Yield a row for each arm: first those on quantized weights, then those on dequantized ones."""
    sizes, rows = SMALL if device.is_small else FULL, []
    peak = peak_flops(device)
    with tempfile.TemporaryDirectory() as scratch:
        base = random_base(device, Path(scratch))
    bench = Bench(device, base, sizes, peak)
    for residency in ("quantized", "dequantized"):
        if residency == "dequantized":
            settle(base.model, "dequantized", "nf4-double", device.dtype, device.device)
        for tokens in sizes.tokens:
            for row in bench.rows(tokens, residency == "dequantized"):
                rows.append(row)
                yield {"tables": [_table(rows, peak)], "notes": notes(base)}


def peak_flops(device: Device) -> float:
    """Return the FLOPs per second of a large product, which stand for the peak of the device."""
    size = 512 if device.is_small else 8192
    left, right = (torch.randn(size, size, device=device.device).to(device.dtype) for _ in range(2))
    return 2 * size**3 / min(seconds_of(device, lambda _: left @ right, 5))


def random_base(device: Device, directory: Path) -> Base:
    """Return a base of random NF4 weights, of Qwen3-VL-4B's sizes or of the miniature's."""
    from benchmarks import shapes
    from trainables.mini import BASE_DIRECTORY

    if device.is_small:
        return shapes.random_base(BASE_DIRECTORY, device.device, device.dtype)
    shapes.SHAPES["4b"].prepare(directory)
    return shapes.random_base(directory, device.device, device.dtype)


def notes(base: Base) -> list[str]:
    """Return what the tables do not say."""
    return [
        f"LoRA on all linears of the last {LAYERS} language layers, rank 16, dropout 0.1, AdamW step included; random "
        "rows without pictures, a quarter of the tokens supervised.",
        f"`{CAREFUL}` is the careful user's loop. It and `resident` hold the weights dequantized, all other arms NF4 "
        f"({base.megabytes:,.0f} MB).",
        f"`over {SOLO}` compares seconds for each trial with `{SOLO}` at the same tokens. Kept activations are those "
        "of the second epoch on: the step that computes them is not timed.",
        "`predicted` is arithmetic made before a measurement, for packing without a shared trunk on an H200. `MB seen` "
        "is the peak of the device; on a CPU it is that of the whole process.",
    ]


@dataclass
class Bench:
    """A base on a device, and the seconds of one trial alone by tokens."""

    device: Device
    base: Base
    sizes: Sizes
    peak: float

    def __post_init__(self) -> None:
        """Prepare rows; kept activations need the facts of a base without adapters."""
        self.encoder = Encoder(self.base)
        self.alone: dict[int, float] = {}

    def rows(self, tokens: int, is_dequantized: bool) -> Iterator[list[Any]]:
        """Yield the rows of one number of tokens."""
        batch = random_batch(self.encoder, self.device.device, tokens // self.sizes.row_tokens, self.sizes.row_tokens)
        if is_dequantized:
            yield self._row(tokens, batch, 1, CAREFUL, Way(share=False, last_for_labels=False), self._careful(batch))
        else:
            yield self._row(tokens, batch, 1, SOLO, Way(share=False, last_for_labels=False), self._solo(batch))
        arms = [KEPT_ACTIVATIONS] if is_dequantized else [*PACKED, KEPT_ACTIVATIONS]
        for trials in self.sizes.trials:
            for arm in arms:
                name = f"{arm.name} + resident" if is_dequantized else arm.name
                yield self._row(tokens, batch, trials, name, arm.way, self._packed(arm, trials, batch))

    def _row(
        self, tokens: int, batch: Batch, trials: int, name: str, way: Way, timed: tuple[list[float], float, float]
    ) -> list[Any]:
        times, predicted, seen = timed
        seconds = statistics.median(times)
        cost = Cost(Architecture.of(self.base.model.config), Counts.of(batch))
        arms = [modelled(trial_spec(LAYERS, seed=number)) for number in range(trials)]
        flops = cost.one_pass(arms, way)
        if name == SOLO:
            self.alone[tokens] = seconds
        return [
            tokens, trials, name, 1e3 * seconds, trials * tokens / seconds, trials * self.alone[tokens] / seconds,
            trials * cost.solo(arms[0]) / flops, PREDICTED.get(tokens) if name == PACKED[0].name else None,
            f"{flops / seconds / self.peak:.0%}", predicted, seen,
        ]  # fmt: skip

    def _solo(self, batch: Batch) -> tuple[list[float], float, float]:
        """Train one trial as Footprint does alone, its adapter on the base."""
        from torch.nn.functional import cross_entropy

        from trainables.evaluation.evaluator import label_logits

        member = placed(self.base, trial_spec(LAYERS))

        def step(number: int) -> None:
            member.adapter.masks.step = number
            self.base.model.train()
            logits, targets = label_logits(self.base, batch)
            cross_entropy(logits, targets).backward()
            self.base.model.eval()
            member.optimizer.step(number)

        return self._timed(step, [member], batch, member.adapter.remove)

    def _careful(self, batch: Batch) -> tuple[list[float], float, float]:
        """Train one trial by the careful user's loop, with PEFT's own modules."""
        member = placed(self.base, trial_spec(LAYERS))
        for module in member.adapter.peft_model.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = torch.nn.Dropout(0.1)  # type: ignore[index, operator]

        def step(_: int) -> None:
            self.base.model.train()
            careful_step(self.base.model, member.optimizer.adamw, batch.inputs, batch.labels, 1.0)
            self.base.model.eval()

        return self._timed(step, [member], batch, member.adapter.remove)

    def _packed(self, arm: Packed, trials: int, batch: Batch) -> tuple[list[float], float, float]:
        store = Store(EntryMemory(STORE_BYTES))
        kept = KeptActivations(self.base, self.encoder, store) if arm.is_kept else None
        if kept is not None:
            _ = kept.facts  # read before adapters are on the base
        members = opened(self.base, [trial_spec(LAYERS, seed=number) for number in range(trials)])
        shared = SharedForward(self.base, [one.adapter for one in members], arm.share, kept)
        return self._timed(lambda number: train_step(shared, members, batch, number), members, batch, shared.remove)

    def _timed(
        self, step: Callable[[int], object], members: Sequence[Member], batch: Batch, end: Callable[[], object]
    ) -> tuple[list[float], float, float]:
        """Return the seconds of steps, and the predicted and the largest seen memory in MB."""
        with ExitStack() as stack:
            stack.callback(end)
            begin_peak(self.device.device)
            times = seconds_of(self.device, step, self.sizes.repeats)
            return times, predicted_mb(self.base, members, batch, LAYERS), peak_mb(self.device.device)


def _table(rows: list[list[Any]], peak: float) -> Values:
    return {
        "title": f"Steps by tokens and sharing; peak {peak / 1e12:.3g} TFLOP/s, of a large product",
        "header": HEADER,
        "rows": list(rows),
    }

"""`python -m benchmarks.reach`: how far sharing reaches, by the number of trials and by their depth.

Times a few points on a deep and narrow base, passes and trials alone taking turns, and draws their CPU seconds with the
FLOP model's lines, and where sharing stops paying. Writes `docs/reach.md`, its figures as JSON, and the picture.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run

if TYPE_CHECKING:
    from benchmarks.device.training import Member
    from benchmarks.flops import Cost
    from trainables.data.encoding import Batch, Encoder
    from trainables.model.base import Base

PAGE = Path("docs/reach.md")
TRIALS, DEPTH = (1, 2, 4, 8, 16, 32, 64), 2
DEPTHS, AT = (1, 2, 4, 9, 18, 27, 36), 8
EPOCHS = 3
ROWS, ROW_TOKENS = 4, 96


@dataclass(frozen=True)
class Point:
    """CPU seconds of one step of `trials` trials that adapt the last `depth` layers: all alone, and in one pass.

    `first` and `kept` are those of a pass that computes and keeps the activations below the adapters, and of one that
    finds them.
    """

    trials: int
    depth: int
    alone: float
    shared: float
    first: float
    kept: float


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps of every point; the fastest counts.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Two points, to test the program.")] = False,
    out: Annotated[Path, typer.Option(help="Output page; figures are kept as JSON beside it.")] = PAGE,
) -> None:
    """Measure, and write the page and its picture. Takes a few minutes on an idle core."""
    import torch

    from benchmarks.measure import machine
    from benchmarks.reach_page import model_lines, write
    from benchmarks.shapes import SHAPES
    from trainables.spec import Placement, Source, TrialSpec

    torch.set_num_threads(1)
    unread = Source(path=Path("unread"), sha256="0" * 64)
    spec = TrialSpec(name="reach", base=unread, train=unread, validation=unread, ood=unread,
                     placement=Placement(language=1), quantization="none")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        SHAPES["deep"].prepare(Path(scratch))
        bench = Bench.on(SHAPES["deep"].load(Path(scratch), spec.model_copy(
            update={"base": Source(path=Path(scratch), sha256="0" * 64)})))  # fmt: skip
        wanted = [(2, DEPTH), (2, 18)] if quick else [(n, DEPTH) for n in TRIALS] + [(AT, d) for d in DEPTHS]
        points = []
        for trials, depth in dict.fromkeys(wanted):
            points.append(bench.point(trials, depth, repeats))
            one = points[-1]
            typer.echo(f"{trials} trials, last {depth}: alone {one.alone:.3f} s, shared {one.shared:.3f} s, "
                       f"kept {one.kept:.3f} s")  # fmt: skip
        lines = model_lines(bench.cost())
    found = {"machine": {**machine("cpu"), "threads": 1}, "points": [asdict(one) for one in points], "model": lines}
    typer.echo(write(out, found))


@dataclass(frozen=True)
class Bench:
    """A base, its encoder, and one batch of rows without pictures."""

    base: Base
    encoder: Encoder
    batch: Batch

    @classmethod
    def on(cls, base: Base) -> Bench:
        """Return a bench with random rows."""
        from benchmarks.device.training import random_batch
        from trainables.data.encoding import Encoder

        encoder = Encoder(base)
        return cls(base, encoder, random_batch(encoder, base.device, ROWS, ROW_TOKENS))

    def cost(self) -> Cost:
        """Return the FLOP model of this base and batch."""
        from benchmarks.architecture import Architecture, Counts
        from benchmarks.flops import Cost

        return Cost(Architecture.of(self.base.model.config), Counts.of(self.batch))

    def point(self, trials: int, depth: int, repeats: int) -> Point:
        """Measure one point: repetitions of a trial alone, of a shared pass, and of passes that keep activations."""
        from benchmarks.device.training import opened, random_batch, train_step, trial_spec
        from trainables.cohort.shared_forward import SharedForward
        from trainables.frozen.entry_memory import EntryMemory
        from trainables.frozen.kept import KeptActivations
        from trainables.frozen.store import Store

        kept = KeptActivations(self.base, self.encoder, Store(EntryMemory(2**30)))
        _ = kept.facts  # what a study reads once, when no adapter is on the base
        members = opened(self.base, [trial_spec(depth, seed=number) for number in range(trials)])
        adapters = [one.adapter for one in members]
        times: dict[str, list[float]] = {"alone": [], "shared": [], "first": [], "kept": []}
        for number in range(repeats + 1):  # the first warms up
            times["alone"].append(self._alone(members[0], depth, number))
            unseen = random_batch(self.encoder, self.base.device, ROWS, ROW_TOKENS, seed=1 + number)
            for name, own, batch in (("shared", None, self.batch), ("first", kept, unseen), ("kept", kept, unseen)):
                shared = SharedForward(self.base, adapters, kept=own)
                times[name].append(_cpu(lambda: train_step(shared, members, batch, number)))  # noqa: B023 called at once
                shared.remove()
        best = {name: min(values[1:]) for name, values in times.items()}
        return Point(trials, depth, trials * best["alone"], best["shared"], best["first"], best["kept"])

    def _alone(self, member: Member, depth: int, step: int) -> float:
        from torch.nn.functional import cross_entropy

        from benchmarks.device.training import placed, trial_spec
        from trainables.evaluation.evaluator import label_logits

        own = placed(self.base, trial_spec(depth, seed=member.adapter.masks.seed))

        def train() -> None:
            own.adapter.masks.step = step
            self.base.model.train()
            logits, targets = label_logits(self.base, self.batch)
            cross_entropy(logits, targets).backward()
            self.base.model.eval()
            own.optimizer.step(step)

        seconds = _cpu(train)
        own.adapter.remove()
        return seconds


def _cpu(run: Callable[[], Any]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    run(main)

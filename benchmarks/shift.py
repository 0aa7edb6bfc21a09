"""Measures how well the shift predicts lost retention, on adapters of several depths and rates as they train.

    python -m benchmarks.shift                                   on the miniature
    python -m benchmarks.shift --base DIR --train F --val F --ood F

Prints one JSON object: each point, and Spearman's rank correlations with intervals of a bootstrap over trials.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

from sweeps.planning.sources import gather
from trainables.command import run
from trainables.data.text import same_answer
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.evaluation.live_probe import GivenAnswers, live_scores
from trainables.evaluation.shift import ShiftProbe
from trainables.model.lora import place
from trainables.model.optimizer import Optimizer
from trainables.model.placement import resolve
from trainables.probes.probe import Baseline
from trainables.probes.question import ask_ood
from trainables.probes.shift import shift_rows
from trainables.spec import Placement, TrialSpec

DRAWS = 2000


@dataclass(frozen=True)
class Point:
    """One eval of one trial: its shift in nats per token, the share of answers lost, and the CPU seconds of both."""

    trial: str
    step: int
    shift: float
    lost: float
    shift_seconds: float
    answer_seconds: float


def points(engine: Engine, specs: Sequence[TrialSpec], steps_between: int) -> Iterator[Point]:
    """Train each trial and yield its evals."""
    evaluator = engine.evaluator
    rows = [row for row in shift_rows(evaluator.data) if row.expect]
    everyone = [ask_ood(row) for row in shift_rows(evaluator.data)]
    base = evaluator.ask(everyone)
    known, probe = Baseline({}, {}, answers=base), ShiftProbe(evaluator)
    drafts = (evaluator.drafts_of_base(known),)
    kept = {row.row_id for row in rows if same_answer(base[ask_ood(row).key], row.expect or "")}
    for spec in specs:
        adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers))
        optimizer, stream = Optimizer(adapter, spec), engine.row_stream(spec, 0)
        for step in range(spec.steps):
            adapter.masks.step = step
            engine.base.model.train()
            for batch in engine.batches(stream, spec, step):
                logits, targets = label_logits(engine.base, batch)
                loss = cross_entropy(logits, targets)
                if loss.requires_grad:
                    loss.backward()
            engine.base.model.eval()
            optimizer.step(step)
            if (step + 1) % steps_between == 0:
                began = time.process_time()
                shift = live_scores([probe], evaluator, {0: GivenAnswers({}, known)})[0].metrics["shift"]
                measured = time.process_time()
                answers = evaluator.ask([ask_ood(row) for row in rows], drafts)
                right = {row.row_id for row in rows if same_answer(answers[ask_ood(row).key], row.expect or "")}
                lost = len(kept - right) / max(1, len(kept))
                yield Point(spec.name, step + 1, shift, lost, measured - began, time.process_time() - measured)
        adapter.remove()


def correlation(pairs: dict[str, list[tuple[float, float]]], seed: int = 0) -> dict[str, float | int | None]:
    """Return Spearman's rank correlation of (shift, lost), with the 90 % interval of a bootstrap over trials."""
    names, generator = sorted(pairs), np.random.default_rng(seed)

    def of(chosen: Sequence[str]) -> float:
        both = np.array([pair for name in chosen for pair in pairs[name]])
        is_constant = len({*both[:, 0]}) < 2 or len({*both[:, 1]}) < 2
        return float("nan") if is_constant else float(spearmanr(both[:, 0], both[:, 1]).statistic)

    drawn = [of(generator.choice(names, len(names))) for _ in range(DRAWS)]
    finite = [one for one in drawn if not np.isnan(one)]
    low, high = np.quantile(finite, [0.05, 0.95]) if finite else (None, None)
    own = of(names)
    count = sum(map(len, pairs.values()))
    return {
        "rank_correlation": None if np.isnan(own) else own,
        "low": low,
        "high": high,
        "trials": len(names),
        "points": count,
        "draws_without_a_value": DRAWS - len(finite),
    }


def main(  # noqa: PLR0913, PLR0917 one function is the whole command line
    base: Annotated[str, typer.Option()] = "",
    train: Annotated[Path | None, typer.Option()] = None,
    val: Annotated[Path | None, typer.Option()] = None,
    ood: Annotated[Path | None, typer.Option()] = None,
    steps: int = 18,
    between: int = 6,
    batch_rows: int = 4,
    depths: str = "1-0,4-0,8-0,0-6,8-12",
    rates: str = "1e-3,4e-3",
) -> None:
    """Measure the rank correlation of the shift to lost retention."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        sources = gather(base or None, train, val, ood, Path(scratch) / "mini")
        specs = [
            TrialSpec(
                name=f"L{depth.partition('-')[0]}-V{depth.partition('-')[2]}-{rate}", **sources.as_settings(),
                placement=Placement(language=int(depth.partition("-")[0]), vision=int(depth.partition("-")[2])),
                quantization="none", learning_rate=float(rate), vision_learning_rate=3 * float(rate), steps=steps,
                batch_rows=batch_rows, warmup_ratio=0.1, dropout=0.0,
            )
            for depth in depths.split(",") for rate in rates.split(",")
        ]  # fmt: skip
        engine = Engine.load(specs[0], torch.device("cpu"))
        found = []
        for point in points(engine, specs, between):
            found.append(point)
            typer.echo(json.dumps(asdict(point)), err=True)
    by_trial: dict[str, list[Point]] = {}
    for point in found:
        by_trial.setdefault(point.trial, []).append(point)
    same = {name: [(one.shift, one.lost) for one in own] for name, own in by_trial.items()}
    ahead = {name: [(own[0].shift, own[-1].lost)] for name, own in by_trial.items()}
    result = {"same_eval": correlation(same), "first_shift_to_last_loss": correlation(ahead)}
    typer.echo(json.dumps({**result, "points": [asdict(one) for one in found]}, indent=1))


if __name__ == "__main__":
    run(main)

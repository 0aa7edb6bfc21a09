"""Runs every miniature trial of a small space once, so that searches can be replayed over the recorded results.

The space: language layers 0, 1, 2, 4 x vision blocks 0, 2, 4, 6 x rank 4, 16 x both rates of `stage4` times 1, 2, 4;
other settings are those of `stage4` on the miniature. The table keeps the verdict and the evals of each trial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sweeps.execution.options import Launch
from sweeps.launch import run
from sweeps.planning.space import Axes
from sweeps.stage4 import STUDY as STAGE4
from sweeps.study import Arm, Study
from trainables.mini import defaults
from trainables.record import Record

LANGUAGE, VISION, RANKS = (0, 1, 2, 4), (0, 2, 4, 6), (4, 16)
RATES = tuple(defaults.LEARNING_RATE * factor for factor in (1.0, 2.0, 4.0))
KEPT = ("eval_loss", "exact_match", "irrelevant_pass", "hallucination", "generalization_gap", "caption_sanity")
DECIMALS = 5

STUDY = Study(
    name="search-table",
    question="What is the result of every trial of a small space?",
    arms=tuple(Arm(f"L{language}V{vision}", language, vision) for language in LANGUAGE for vision in VISION),
    settings=STAGE4.settings,
    miniature=STAGE4.miniature,
    reading="exact",  # the recorded rows were decided so
)


def record(storage: Path, console: Console) -> list[dict[str, Any]]:
    """Run every trial of the space, one rank and rate after the other: about 20 minutes on two idle cores.

    Trials with a result below `storage` are not run again. Returns the rows of the table.
    """
    launch = Launch(storage=storage, tracking_uri=f"sqlite:///{storage / 'mlflow.db'}", console=console)
    found: dict[str, Record] = {}
    for rate in RATES:
        for rank in RANKS:
            for one in run(STUDY, Axes(ranks=(rank,), learning_rates=(rate,)), launch):
                found[one.spec().trial_id] = one
    return [row_of(one) for one in found.values()]


def row_of(record: Record) -> dict[str, Any]:
    """Return the row of a trial; its other settings follow from language, vision, rank and rate."""
    spec, verdict, best = record.spec(), record.verdict(), record.best()
    assert verdict is not None
    return {
        "language": spec.placement.language,
        "vision": spec.placement.vision,
        "rank": spec.rank,
        "learning_rate": spec.learning_rate,
        "verdict": verdict.model_dump(),
        "best_step": best.step if best else None,
        "evals": [{"step": one.step, **_kept(one.metrics)} for one in record.evals()],
    }


def _kept(metrics: Mapping[str, float], names: Sequence[str] = KEPT) -> dict[str, float]:
    return {name: round(metrics[name], DECIMALS) for name in names}

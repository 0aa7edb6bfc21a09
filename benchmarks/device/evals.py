"""What an eval costs on the device, with drafts and decoded token by token."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.device.budget import Values
from benchmarks.device.training import Device
from benchmarks.evals import EvalCost, measured
from trainables.data.duplicates import digest_of
from trainables.engine import Engine
from trainables.mini import BASE_DIRECTORY
from trainables.spec import Placement, Source, TrialSpec

HEADER = ("step", "answers", "decoded, s", "drafted, s", "forced pass, s", "decoded, steps", "drafted, steps",
          "drafted, forced passes", "equal answers")  # fmt: skip


def measure(device: Device) -> Iterator[Values]:
    """Yield the table of one trial's evals on the miniature; its answers are those of a trained base."""
    evals, every = (1, 2) if device.is_small else (3, 8)
    with tempfile.TemporaryDirectory() as scratch:
        spec = TrialSpec(
            name="evals", **_sources(Path(scratch), device), steps=evals * every, eval_every_steps=every,
            base=Source(path=BASE_DIRECTORY, sha256=digest_of(BASE_DIRECTORY / "config.json")),
            placement=Placement(language=2), dropout=0.0, learning_rate=2e-4, batch_rows=4 if device.is_small else 16,
        )  # fmt: skip
        engine = Engine.load(spec, device.device)
        costs = measured(engine, spec, Path(scratch), 1, _clock(device), lambda _: None)
    yield {"tables": [{"title": "Evals of one trial of the miniature", "header": HEADER,
                       "rows": [_row(one) for one in costs]}]}  # fmt: skip


def _clock(device: Device) -> Any:
    def clock() -> float:
        device.synchronize()
        return time.perf_counter()

    return clock


def _row(one: EvalCost) -> list[Any]:
    plain, drafted, forced = (min(s) for s in (one.plain_seconds, one.drafted_seconds, one.forced_seconds))
    return [one.step, one.answers, plain, drafted, forced, plain / one.step_seconds, drafted / one.step_seconds,
            drafted / forced, "yes" if one.equal else "NO"]  # fmt: skip


def _sources(directory: Path, device: Device) -> dict[str, Source]:
    from benchmarks.rows import Amounts, write
    from trainables.mini import datasets

    if device.is_small:
        return dict(write(directory, Amounts(train=8)))
    files = datasets.write(directory / "rows", seed=0)
    return {
        name: Source(path=path, sha256=digest_of(path))
        for name, path in (("train", files.train), ("validation", files.validation), ("ood", files.ood))
    }

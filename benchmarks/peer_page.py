"""Writes `docs/peers.md` from the figures in `docs/peers.json`, and checks that all arms did the same work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis import templates
from benchmarks.peer_job import WARM_UP_STEPS
from trainables.errors import ExitCode, UserError

Values = Mapping[str, Any]

MOST_DIFFERENCE = 1e-4  # nats; rounding of other kernels and of another order of sums, in float32
REFERENCE = "alone"


class OtherWork(UserError):
    """An arm has not trained what the others have, so that its times cannot be compared."""

    exit_code = ExitCode.CHECK_FAILED


def page(results: Values) -> str:
    """Return the page: seconds of a step and a trial by arm, for one epoch and for all."""
    work = results["work"]
    text = templates.markdown(
        "benchmarks", "peers.md",
        results=results, work=work, tables={epochs: table(results, epochs) for epochs in sorted({1, work["epochs"]})},
        versions={arm["title"]: arm["runs"][0]["versions"] for arm in results["arms"].values()},
    )  # fmt: skip
    return text.rstrip() + "\n"


def table(results: Values, epochs: int) -> list[str]:
    """Return one row for each arm: CPU and wall seconds of a step for each trial, over the first `epochs`."""
    steps = results["work"]["epoch_steps"] * epochs
    careful = step_seconds(results["arms"]["careful"], "cpu_seconds", steps)
    lines = ["| arm | CPU s a step and trial | wall s | over the careful loop | largest loss difference |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    differences = loss_differences(results)
    for name, arm in results["arms"].items():
        cpu, wall = (step_seconds(arm, clock, steps) for clock in ("cpu_seconds", "wall_seconds"))
        lines.append(
            f"| {arm['title']} | {cpu:.3f} | {wall:.3f} | {careful / cpu:.2f} times | {differences[name]:.1e} |"
        )
    return lines


def step_seconds(arm: Values, clock: str, steps: int) -> float:
    """Return the mean seconds of a step for each trial, in the fastest run; the first step, which warms up, aside."""
    means = [sum(run[clock][WARM_UP_STEPS:steps]) / (steps - WARM_UP_STEPS) for run in arm["runs"]]
    return min(means) / arm["trials"]


def loss_differences(results: Values) -> dict[str, float]:
    """Return, for each arm, the largest difference of a loss from that of our trial alone, over all steps and runs."""
    reference = results["arms"][REFERENCE]["runs"][0]["losses"]
    return {name: _largest(arm["runs"], reference) for name, arm in results["arms"].items()}


def _largest(runs: Sequence[Values], reference: Sequence[float]) -> float:
    differences = [abs(own - known) for run in runs for own, known in zip(run["losses"], reference, strict=True)]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def check(results: Values) -> None:
    """Check that every arm has the losses of our trial alone.

    Raises:
        OtherWork: names the first that has not.
    """
    for name, difference in loss_differences(results).items():
        if not difference <= MOST_DIFFERENCE:
            raise OtherWork(
                f"all arms must have the same losses within {MOST_DIFFERENCE:g}, but {results['arms'][name]['title']} "
                f"differs by {difference:.2g}",
                "its times are of other work: compare its versions and settings with `benchmarks/peer_job.py`",
            )

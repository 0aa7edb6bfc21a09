"""The command line of a progressive unfreezing: each arm extends the best adapter of the arm before."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.cli.axes import placed_once
from sweeps.cli.command_line import CommandLine
from sweeps.cli.main import run_command_line
from sweeps.cli.options import ACTIONS, BUDGET, DATA, FORECAST, HOLDOUT, PLACED, QUANTIZED, SPACE, LaunchOptions, option
from sweeps.study import Study

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.stages.run import StagedJob
    from sweeps.stages.staged_study import StagedStudy


@dataclass(frozen=True)
class UnfreezeOptions:
    """Settings of all stages."""

    rank: int = field(default=0, metadata=option(SPACE, minimum=0, shown_default="the study's"))
    """Rank of all stages; alpha keeps its ratio to the rank."""
    rate: float = field(default=0.0, metadata=option(SPACE, "--lr", minimum=0, shown_default="the study's"))
    """Language learning rate; the vision rate keeps its ratio."""
    quant: str = field(default="", metadata=option(SPACE, shown_default="the study's", text=QUANTIZED))
    """Quantization of the base, one for all stages."""
    seed: int = field(default=0, metadata=option(SPACE, minimum=0))
    """Seed of initialization and dropout."""


SHARED = (
    *DATA, *HOLDOUT, "split_holdout", "drop", "probes", "init_from", *BUDGET, *PLACED, "settings", "storage",
    "experiment", "tracking_uri", "address", "threads", "cache", "cache_gb", "keep", "resident", *FORECAST,
    *ACTIONS,
)  # fmt: skip
CHANGED = {
    "init_from": {"help": "LoRA directory that the first stage starts from.", "shown_default": "none"},
    "modules": {"help": "Kind of linears that carry LoRA in all stages: attention, mlp, gate-up (a part of mlp), all.",
                "shown_default": "the study's; else all"},
    "layers": {"help": "Which layers of a tower are added first: last, first or gradient.", "shown_default": "last"},
}  # fmt: skip


def main(study: Study) -> None:
    """Run the command line of an unfreezing and exit with a documented code."""
    run_command_line(line_of(study))


def line_of(study: Study) -> CommandLine[UnfreezeOptions]:
    """Return the command line of an unfreezing."""

    def job(own: UnfreezeOptions, shared: LaunchOptions, launch: Launch) -> StagedJob:
        from sweeps.stages.run import staged_job

        return staged_job(study, launch, shared.resume, lambda below: _stages(study, own, shared, launch, below))

    return CommandLine(study, UnfreezeOptions, SHARED, job, CHANGED, begun="course.json", with_study=line_of)


def _stages(study: Study, own: UnfreezeOptions, shared: LaunchOptions, launch: Launch, below: Path) -> StagedStudy:
    from sweeps.planning.space import Axes
    from sweeps.stages.unfreezing import unfreezing

    kinds, rules = placed_once(shared)
    axes = Axes(
        ranks=(own.rank,) if own.rank else (),
        learning_rates=(own.rate,) if own.rate else (),
        quantizations=(own.quant,) if own.quant else (),  # type: ignore[arg-type] the spec checks it
        modules=kinds,
        layers=rules,
        fixed={**shared.fixed(), **({"seed": own.seed} if own.seed else {})},
        init_from=shared.init_from,
    )
    return unfreezing(study, axes, launch, below)

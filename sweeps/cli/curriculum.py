"""The command line of a curriculum: stages from YAML files, or the miniature's three stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.cli.axes import placed_once
from sweeps.cli.command_line import CommandLine
from sweeps.cli.main import run_command_line
from sweeps.cli.options import ACTIONS, FORECAST, HOLDOUT, MODEL, PLACED, RUN, SPACE, LaunchOptions, argument, option
from sweeps.study import Study

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.stages.run import StagedJob
    from sweeps.stages.staged_study import StagedStudy


@dataclass(frozen=True)
class CurriculumOptions:
    """The options of a curriculum."""

    files: list[Path] | None = field(default=None, metadata=argument("the miniature's three stages"))
    """YAML files: one per stage, or one with a list `stages`."""
    stages: list[Path] | None = field(default=None, metadata=option(MODEL, shown_default="none"))
    """YAML files of stages, given as an option instead."""
    seed: int = field(default=0, metadata=option(SPACE, minimum=0))
    """Seed of initialization and dropout."""
    resume_optimizer: bool = field(default=False, metadata=option(RUN))
    """Carry AdamW's state from stage to stage."""


SHARED = (
    "base", *HOLDOUT, "split_holdout", "probes", "init_from", "steps", "eval_every", "train_slice_rows", *PLACED,
    "storage", "experiment", "tracking_uri", "address", "threads", "cache", "cache_gb", "keep", "resident", *FORECAST,
    *ACTIONS,
)  # fmt: skip
CHANGED = {
    "base": {"shown_default": "`base_model` of the stages"},
    "init_from": {"help": "LoRA directory that the first stage starts from.", "shown_default": "none"},
    "modules": {"help": "Kind of linears that carry LoRA in all stages: attention, mlp, gate-up (a part of mlp), all.",
                "shown_default": "the study's"},
    "layers": {"help": "Which layers of a tower carry LoRA in all stages: last or first (as many as the stage has, or "
                       "-N), every-N, all.", "shown_default": "last"},
    "split_holdout": {"help": "Split these rows off those of the last stage instead: a quarter of each kind, from 200 "
                              "irrelevant rows on; the other stages' rows are split alike."},
    "test": {"help": "Rows of the last stage's task that measure the picks at the end: JSONL."},
}  # fmt: skip


def main(study: Study) -> None:
    """Run the command line of a curriculum and exit with a documented code."""
    run_command_line(line_of(study))


def line_of(study: Study) -> CommandLine[CurriculumOptions]:
    """Return the command line of a curriculum."""

    def job(own: CurriculumOptions, shared: LaunchOptions, launch: Launch) -> StagedJob:
        from sweeps.stages.run import staged_job

        return staged_job(study, launch, shared.resume, lambda below: _stages(study, own, shared, launch, below))

    return CommandLine(study, CurriculumOptions, SHARED, job, CHANGED, begun="course.json", with_study=line_of)


def _stages(study: Study, own: CurriculumOptions, shared: LaunchOptions, launch: Launch, below: Path) -> StagedStudy:
    from sweeps.stages.curriculum import CurriculumInput, curriculum

    seed = {"seed": own.seed} if own.seed else {}
    kinds, rules = placed_once(shared)
    given = CurriculumInput(
        files=(*(own.stages or ()), *(own.files or ())),
        start=shared.init_from,
        fixed={**shared.fixed(), **seed},
        optimizer="resumed" if own.resume_optimizer else "fresh",
        modules=kinds,
        layers=rules,
    )
    return curriculum(study, given, launch, below.with_name("data-stages"))

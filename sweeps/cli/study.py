"""The command line of a study of independent trials: its arms and axes (`--only`, `--rank 8,16`, `--seeds`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.cli.command_line import CommandLine
from sweeps.cli.main import run_command_line
from sweeps.cli.options import BUDGET, DATA, HOLDOUT, SPACE, LaunchOptions, option
from sweeps.study import Study
from trainables.errors import UserError, items, named

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.launch import ResumedStudy, StudyJob
    from sweeps.planning.space import Axes


ARMS = "A1,C2"


@dataclass(frozen=True)
class StudyOptions:
    """The options that choose arms and axes of a study."""

    only: str = field(default="", metadata=option(SPACE))
    """Arms to run, e.g. A1,C2."""
    winners: Path | None = field(default=None, metadata=option(SPACE, shown_default="none"))
    """Use the placements in this winners.json of `analysis pareto` as the arms."""
    recommended: bool = field(default=False, metadata=option(SPACE))
    """Run only the arms that the study recommends to try first."""
    rank: str = field(default="", metadata=option(SPACE))
    """Ranks, e.g. 8,16,32; alpha keeps its ratio to the rank."""
    rates: str = field(default="", metadata=option(SPACE, "--lr"))
    """Language learning rates, e.g. 1e-4,3e-4; the vision rate keeps its ratio."""
    quant: str = field(default="", metadata=option(SPACE))
    """Quantizations: none, int8, fp4, nf4, nf4-double."""
    seeds: int = field(default=1, metadata=option(SPACE, minimum=1))
    """Seeds per arm: 3 means 0, 1, 2."""


SHARED = (
    *BUDGET, "settings", *DATA, *HOLDOUT, "split_holdout", "drop", "init_from", "restart_from", "storage", "experiment",
    "tracking_uri", "address", "cohort", "threads", "cache", "cache_gb", "keep", "resident", "price", "memory",
    "scheduler", "scheduler_options", "guards", "notify", "dry_run", "force", "steal", "fresh_baseline", "resume",
    "sync",
)  # fmt: skip


def main(study: Study) -> None:
    """Run the command line of `study` and exit with a documented code."""

    def job(own: StudyOptions, shared: LaunchOptions, launch: Launch) -> StudyJob | ResumedStudy:
        return job_of(study, own, shared, launch)

    run_command_line(CommandLine(study, StudyOptions, SHARED, job))


def job_of(study: Study, own: StudyOptions, shared: LaunchOptions, launch: Launch) -> StudyJob | ResumedStudy:
    """Return the job that the options describe.

    Raises:
        UserError: options are malformed or exclude each other.
    """
    from sweeps.execution.schedulers import parse_scheduler
    from sweeps.launch import StudyJob, resumed
    from sweeps.planning.winners import with_winners

    launch = replace(launch, scheduler=parse_scheduler(shared.scheduler, shared.scheduler_options))
    if shared.resume:
        return resumed(study, launch)
    chosen = with_winners(study, own.winners, items(own.only, "--only", ARMS))
    chosen = replace(chosen, refused=()) if launch.force else chosen
    return StudyJob(chosen, _axes(chosen, own, shared), launch)


def _axes(study: Study, own: StudyOptions, shared: LaunchOptions) -> Axes:
    from sweeps.planning.space import Axes

    if own.recommended and own.only:
        raise UserError("--only and --recommended both choose arms, but only one of them may be given")
    return Axes(
        only=study.recommended if own.recommended else items(own.only, "--only", ARMS),
        ranks=_numbers(own.rank, int, "--rank"),
        learning_rates=_numbers(own.rates, float, "--lr"),
        quantizations=items(own.quant, "--quant", "nf4,int8"),  # type: ignore[arg-type] the spec checks them
        seeds=own.seeds,
        fixed=shared.fixed(),
        init_from=shared.init_from,
        restart_from=shared.restart_from,
    )


def _numbers(text: str, kind: type, flag: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(word) for word in items(text, flag, "8,16" if kind is int else "1e-4,3e-4"))
    except ValueError:
        raise UserError(f"{flag} must be comma-separated numbers, but got `{named(text)}`") from None

"""The command line of a study of independent trials: its arms and axes (`--only`, `--rank 8,16`, `--seeds`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.cli.axes import mixes, placed
from sweeps.cli.command_line import CommandLine
from sweeps.cli.main import run_command_line
from sweeps.cli.options import (
    ACTIONS,
    BUDGET,
    DATA,
    FORECAST,
    HOLDOUT,
    PLACED,
    QUANTIZED,
    SPACE,
    LaunchOptions,
    option,
)
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

    only: str = field(default="", metadata=option(SPACE, shown_default="all but refused ones"))
    """Arms to run, e.g. A1,C2."""
    winners: Path | None = field(default=None, metadata=option(SPACE, shown_default="none"))
    """Use the placements in this winners.json of `footprint pareto` as the arms."""
    recommended: bool = field(default=False, metadata=option(SPACE))
    """Run only the arms that the study recommends to try first."""
    rank: str = field(default="", metadata=option(SPACE, shown_default="the study's"))
    """Ranks, e.g. 8,16,32; alpha keeps its ratio to the rank."""
    rates: list[str] | None = field(default=None, metadata=option(SPACE, "--lr", shown_default="the study's"))
    """Language learning rates, e.g. 1e-4,3e-4; the vision rate keeps its ratio. With auto, or auto:3e-4 around that
    rate, pilots choose the rate of each arm."""
    quant: str = field(default="", metadata=option(SPACE, shown_default="the study's", text=QUANTIZED))
    """Quantizations of the base."""
    seeds: int = field(default=1, metadata=option(SPACE, minimum=1))
    """Seeds per arm: 3 means 0, 1, 2."""


SHARED = (
    *BUDGET, *PLACED, "settings", *DATA, *HOLDOUT, "split_holdout", "mix", "drop", "probes", "init_from",
    "restart_from", "storage", "experiment", "tracking_uri", "address", "cohort", "threads", "cache", "cache_gb",
    "keep", "resident", *FORECAST, "scheduler", "scheduler_options", *ACTIONS,
)  # fmt: skip


def main(study: Study) -> None:
    """Run the command line of `study` and exit with a documented code."""
    run_command_line(line_of(study))


def line_of(study: Study) -> CommandLine[StudyOptions]:
    """Return the command line of `study`."""

    def job(own: StudyOptions, shared: LaunchOptions, launch: Launch) -> StudyJob | ResumedStudy:
        return job_of(study, own, shared, launch)

    return CommandLine(study, StudyOptions, SHARED, job, with_study=line_of)


def job_of(study: Study, own: StudyOptions, shared: LaunchOptions, launch: Launch) -> StudyJob | ResumedStudy:
    """Return the job that the options describe.

    Raises:
        UserError: options are malformed or exclude each other.
    """
    from sweeps.execution.schedulers import parse_scheduler
    from sweeps.launch import StudyJob, resumed
    from sweeps.planning.pilots import parse_rates
    from sweeps.planning.winners import with_winners

    launch = replace(launch, scheduler=parse_scheduler(shared.scheduler, shared.scheduler_options))
    if shared.resume:
        return resumed(study, launch)
    chosen = with_winners(study, own.winners, items(own.only, "--only", ARMS))
    chosen = replace(chosen, refused=()) if launch.force else chosen
    tries_rates, _ = parse_rates(",".join(own.rates or ()))
    return StudyJob(chosen, _axes(chosen, own, shared), launch, mixes(shared), tries_rates)


def _axes(study: Study, own: StudyOptions, shared: LaunchOptions) -> Axes:
    from sweeps.planning.pilots import parse_rates
    from sweeps.planning.space import Axes

    kinds, rules = placed(shared)
    _, rates = parse_rates(",".join(own.rates or ()))
    if own.recommended and own.only:
        raise UserError("--only and --recommended both choose arms, but only one of them may be given")
    return Axes(
        only=study.recommended if own.recommended else items(own.only, "--only", ARMS),
        ranks=_ranks(own.rank),
        learning_rates=rates,
        modules=kinds,
        layers=rules,
        quantizations=items(own.quant, "--quant", "nf4,int8"),  # type: ignore[arg-type] the spec checks them
        seeds=own.seeds,
        fixed=shared.fixed(),
        init_from=shared.init_from,
        restart_from=shared.restart_from,
    )


def _ranks(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in items(text, "--rank", "8,16"))
    except ValueError:
        raise UserError(f"--rank must be comma-separated numbers, but got `{named(text)}`") from None

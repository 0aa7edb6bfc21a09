"""The command line every study shares; heavy libraries are imported when a command runs, so --help answers at once."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sweeps.cli.main import guarded, sync_records
from sweeps.cli.options import (
    EXIT_CODES,
    Address,
    BaseOption,
    Cohort,
    Drop,
    DryRun,
    Epochs,
    EvalEvery,
    Experiment,
    Force,
    InitFrom,
    Only,
    Ood,
    Quant,
    Rank,
    Rate,
    Recommended,
    RestartFrom,
    Resume,
    SchedulerName,
    SchedulerOptions,
    Seeds,
    Set,
    Steps,
    Storage,
    Sync,
    Tracking,
    Train,
    Validation,
    Winners,
)
from sweeps.study import Study
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.planning.space import Axes
    from trainables.record import Record


def main(study: Study) -> None:
    """Run the command line of `study` and exit with a documented code."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

    @app.command(help=f"{study.question}\n\n{EXIT_CODES}")
    def command(  # noqa: PLR0913, PLR0917 one function is the whole command line
        context: typer.Context,
        only: Only = "", winners: Winners = None, recommended: Recommended = False, rank: Rank = "", rate: Rate = "",
        quant: Quant = "",
        seeds: Seeds = 1, steps: Steps = 0, epochs: Epochs = 0.0, eval_every: EvalEvery = 0, other: Set = "",
        base: BaseOption = "", train: Train = None, val: Validation = None, ood: Ood = None,
        drop: Drop = "", init_from: InitFrom = None, restart_from: RestartFrom = None,
        storage: Storage = Path("runs"), experiment: Experiment = "", tracking_uri: Tracking = "",
        address: Address = "", cohort: Cohort = 0, scheduler: SchedulerName = "",
        scheduler_options: SchedulerOptions = "", dry_run: DryRun = False, force: Force = False,
        resume: Resume = False, sync: Sync = False,
    ) -> None:  # fmt: skip
        from sweeps.execution.options import Launch

        launch = Launch(
            storage=storage, experiment=experiment or None, tracking_uri=tracking_uri or None,
            address=address or None, cohort=cohort or None, base=base or None, train=train, validation=val, ood=ood,
            drop=drop, force=force, command=shlex.join(["python", "-m", f"sweeps.{study.name}", *sys.argv[1:]]),
        )  # fmt: skip
        axes = dict(only=only, winners=winners, recommended=recommended, rank=rank, rate=rate, quant=quant, seeds=seeds,
                    steps=steps, epochs=epochs, eval_every=eval_every, other=other, init_from=init_from,
                    restart_from=restart_from)  # fmt: skip
        asked = (scheduler, scheduler_options)
        raise typer.Exit(_guarded(study, launch, axes, asked, context))

    app()


def _guarded(
    study: Study, launch: Launch, axes: dict[str, Any], scheduler: tuple[str, str], context: typer.Context
) -> int:
    def act() -> list[Record] | None:
        from sweeps.cli.main import check_finishing
        from sweeps.execution.schedulers import parse_scheduler
        from sweeps.launch import resume as resume_records
        from sweeps.launch import run
        from sweeps.planning.winners import around

        check_finishing(context)
        scheduled = replace(launch, scheduler=parse_scheduler(*scheduler))
        if context.params["sync"]:
            return sync_records(study, launch)
        if context.params["resume"]:
            return resume_records(study, scheduled)
        chosen = around(study, axes["winners"], _words(axes["only"]))
        chosen = replace(chosen, refused=()) if launch.force else chosen
        if context.params["dry_run"]:
            return _dry_run(chosen, scheduled, axes)
        return run(chosen, _axes(chosen, axes, launch), scheduled)

    return guarded(study, launch, act, _again(study, launch, scheduler))


def _dry_run(study: Study, launch: Launch, axes: dict[str, Any]) -> None:
    from sweeps.execution.schedulers import check_scheduler
    from sweeps.launch import plan, show
    from sweeps.planning.preflight import admit

    with tempfile.TemporaryDirectory() as scratch:
        planned = plan(study, _axes(study, axes, launch), launch, Path(scratch) / "data")
    show(study, planned, launch)
    admit(planned.preflight, launch.force)
    if launch.scheduler:
        check_scheduler(launch.scheduler, [one.spec for one in planned.forecasts], planned.sources.reported)
    launch.console.print("dry run: nothing was written")


def _axes(study: Study, given: dict[str, Any], launch: Launch) -> Axes:
    from sweeps.planning.overrides import parse_settings
    from sweeps.planning.space import Axes

    if given["recommended"] and given["only"]:
        raise UserError("--only and --recommended both choose arms, but only one of them may be given")
    fixed = {"steps": given["steps"], "eval_every_steps": given["eval_every"], "epochs": given["epochs"]}
    if fixed["steps"] and fixed["epochs"]:
        raise UserError("--steps and --epochs both set the budget, but only one of them may be given")
    return Axes(
        only=study.recommended if given["recommended"] else _words(given["only"]),
        ranks=_numbers(given["rank"], int, "--rank"),
        learning_rates=_numbers(given["rate"], float, "--lr"),
        quantizations=_words(given["quant"]),  # type: ignore[arg-type] the spec checks them
        seeds=given["seeds"],
        fixed={**parse_settings(given["other"]), **{key: value for key, value in fixed.items() if value}},
        init_from=given["init_from"],
        restart_from=given["restart_from"],
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str, kind: type, option: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(word) for word in _words(text))
    except ValueError:
        raise UserError(f"{option} must be numbers with commas between them, but got `{text}`") from None


def _again(study: Study, launch: Launch, scheduler: tuple[str, str]) -> str:
    words = ["python", "-m", f"sweeps.{study.name}", "--resume"]
    words += ["--experiment", launch.experiment] if launch.experiment else []
    words += ["--storage", str(launch.storage)] if launch.storage != Path("runs") else []
    words += ["--tracking-uri", launch.tracking_uri] if launch.tracking_uri else []
    words += ["--address", launch.address] if launch.address else []
    words += [
        word for pair in zip(("--scheduler", "--scheduler-options"), scheduler, strict=True) if pair[1] for word in pair
    ]
    return shlex.join(words)

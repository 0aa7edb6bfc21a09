"""The command line every study shares; heavy libraries are imported when a command runs, so --help answers at once."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.study import Study
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeps.launch import Launch
    from sweeps.space import Axes
    from trainables.record import Record

EXIT_CODES = (
    "Exit codes: 0 all trials have a result (pruned is a result) · 2 bad input, nothing was spent · "
    "3 some trials are invalid, infeasible or failed · 4 a record is damaged · 5 another launch runs this experiment · "
    "130 stopped, everything checkpointed, resume with --resume."
)
SPACE, MODEL, RUN = "Space", "Model and data", "Run"

Only = Annotated[str, typer.Option(help="Arms to run, e.g. A1,C2.", rich_help_panel=SPACE)]
Winners = Annotated[Path | None, typer.Option(help="winners.json of `analysis pareto`: its placements are the arms.",
                                              show_default="none", rich_help_panel=SPACE)]  # fmt: skip
Recommended = Annotated[bool, typer.Option("--recommended", help="Only the arms to try first.", rich_help_panel=SPACE)]
Rank = Annotated[str, typer.Option(help="Ranks, e.g. 8,16,32; alpha keeps its ratio.", rich_help_panel=SPACE)]
Rate = Annotated[str, typer.Option("--lr", help="Language rates, e.g. 1e-4,3e-4; vision keeps its ratio.",
                                   rich_help_panel=SPACE)]  # fmt: skip
Quant = Annotated[str, typer.Option(help="none, int8, fp4, nf4, nf4-double.", rich_help_panel=SPACE)]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds per arm: 3 means 0, 1, 2.", rich_help_panel=SPACE)]
Steps = Annotated[int, typer.Option(min=0, help="Optimizer steps.", rich_help_panel=SPACE, show_default="the study's")]
Epochs = Annotated[float, typer.Option(min=0, help="Passes over the data, instead of --steps.", rich_help_panel=SPACE,
                                       show_default="the study's")]  # fmt: skip
EvalEvery = Annotated[int, typer.Option(min=0, help="Steps between evals.", rich_help_panel=SPACE,
                                        show_default="the study's")]  # fmt: skip
Set = Annotated[str, typer.Option("--set", help="Other settings, e.g. schedule=stable,batch_warmup_ratio=0.2.",
                                  show_default="the study's", rich_help_panel=SPACE)]  # fmt: skip
BaseOption = Annotated[str, typer.Option("--base", help="Model directory or hub name.", show_default="the miniature",
                                         rich_help_panel=MODEL)]  # fmt: skip
Data = typer.Option(help="JSONL or a JSON array, or dataset_info.json:NAME.", rich_help_panel=MODEL)
Train = Annotated[Path | None, Data]
Validation = Annotated[Path | None, typer.Option("--val", help="JSONL, held out.", rich_help_panel=MODEL)]
Ood = Annotated[Path | None, typer.Option("--ood", help="JSONL of irrelevant, caption and text rows.",
                                          rich_help_panel=MODEL)]  # fmt: skip
Drop = Annotated[str, typer.Option(help="Filter the training rows: duplicates, near-duplicates, contradictions, "
                                   "degenerate, broken, short:N, long:N (characters).", show_default="none",
                                   rich_help_panel=MODEL)]  # fmt: skip
InitFrom = Annotated[Path | None, typer.Option(help="LoRA directory that every arm goes on from, or adds "
                                               "modules to.", show_default="none", rich_help_panel=MODEL)]  # fmt: skip
RestartFrom = Annotated[Path | None, typer.Option(help="An earlier one: every arm goes on from it in a second trial, "
                                                  "for contrast.", show_default="none",
                                                  rich_help_panel=MODEL)]  # fmt: skip
Storage = Annotated[Path, typer.Option(help="Where records go.", rich_help_panel=RUN)]
Experiment = Annotated[str, typer.Option(help="Its name.", show_default="the study's", rich_help_panel=RUN)]
Tracking = Annotated[str, typer.Option(help="MLflow store.", show_default="sqlite:///mlflow.db", rich_help_panel=RUN)]
Address = Annotated[str, typer.Option(help="Ray cluster, e.g. auto.", show_default="this machine",
                                      rich_help_panel=RUN)]  # fmt: skip
Cohort = Annotated[int, typer.Option(min=0, help="Trials at most trained together on one base; 1 trains each alone.",
                                     show_default="what fits and is fastest", rich_help_panel=RUN)]  # fmt: skip
SchedulerName = Annotated[str, typer.Option("--scheduler", help="Stop trials that fall behind: asha, median.",
                                            show_default="none", rich_help_panel=RUN)]  # fmt: skip
SchedulerOptions = Annotated[str, typer.Option(help="Its options, e.g. metric=eval_loss,grace_period=30.",
                                               rich_help_panel=RUN)]  # fmt: skip
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the matrix, touch nothing.", rich_help_panel=RUN)]
Force = Annotated[bool, typer.Option("--force", help="Run what the plan refuses; the records say so.",
                                     rich_help_panel=RUN)]  # fmt: skip
Resume = Annotated[bool, typer.Option("--resume", help="Finish what the experiment began.", rich_help_panel=RUN)]
Sync = Annotated[bool, typer.Option("--sync", help="Complete MLflow from the records.", rich_help_panel=RUN)]


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
        from sweeps.launch import Launch

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
        from sweeps.finishing import check_finishing
        from sweeps.launch import resume as resume_records
        from sweeps.launch import run
        from sweeps.schedulers import parse_scheduler
        from sweeps.winners import around

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


def guarded(study: Study, launch: Launch, act: Callable[[], list[Record] | None], again: str) -> int:
    """Do what a command line asks; says what came of it, or what must be corrected, and returns the exit code.

    `act` returns the records of a launch that ended, None where nothing was run; `again` is the command that resumes.
    """
    from sweeps import report
    from sweeps.tables import closing

    try:
        launch.directory(study)  # its name is refused before anything is read
        records = act()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        typer.echo(f"stopped; every running trial has a checkpoint. Resume with:\n\n    {again}", err=True)
        return 130
    if records is None:
        return 0
    for table in closing(study, records):
        launch.console.print(table)
    launch.console.print(
        report.summary(study, records, launch.experiment or study.name), soft_wrap=True, highlight=False
    )
    return exit_code(records)


def exit_code(records: list[Record]) -> int:
    """Return 3 when a trial has no usable result, else 0; a pruned trial is a result."""
    kinds = {verdict.kind for record in records if (verdict := record.verdict())}
    return 3 if kinds & {"invalid", "infeasible", "failed"} else 0


def _dry_run(study: Study, launch: Launch, axes: dict[str, Any]) -> None:
    from sweeps.launch import plan, show
    from sweeps.preflight import admit
    from sweeps.schedulers import check_scheduler

    with tempfile.TemporaryDirectory() as scratch:
        planned = plan(study, _axes(study, axes, launch), launch, Path(scratch) / "data")
    show(study, planned, launch)
    admit(planned.preflight, launch.force)
    if launch.scheduler:
        check_scheduler(launch.scheduler, [one.spec for one in planned.forecasts], planned.sources.reported)
    launch.console.print("dry run: nothing was written")


def sync_records(study: Study, launch: Launch) -> None:
    """Complete MLflow from the records of an experiment.

    Raises:
        UserError: there are none, or MLflow does not answer.
    """
    from sweeps.tracker import default_tracking_uri, sync_all

    directory = launch.directory(study)
    if not (directory / "study.json").exists():
        raise UserError(f"only an experiment with records can be mirrored, but {directory} has none")
    uri = launch.tracking_uri or default_tracking_uri()
    names = sync_all(directory, uri, directory.name)
    typer.echo(f"mirrored {len(names)} trials of `{directory.name}`")


def _axes(study: Study, given: dict[str, Any], launch: Launch) -> Axes:
    from sweeps.settings import parse_settings
    from sweeps.space import Axes

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

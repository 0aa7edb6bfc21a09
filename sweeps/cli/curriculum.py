"""The command line of a curriculum: stages from YAML files, or the miniature's own, one after another."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.main import guarded, sync_records
from sweeps.cli.options import (
    EXIT_CODES,
    MODEL,
    RUN,
    SPACE,
    Address,
    DryRun,
    EvalEvery,
    Experiment,
    Force,
    Resume,
    Steps,
    Storage,
    Sync,
    Tracking,
)
from sweeps.study import Study

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.stages.sequence import Course
    from trainables.record import Record


Files = Annotated[list[Path] | None, typer.Argument(help="YAML: a file for each stage, or one with a list `stages`.",
                                                    show_default="the miniature's three stages")]  # fmt: skip
FilesOption = Annotated[list[Path] | None, typer.Option("--stages", help="The same, as an option.",
                                                        rich_help_panel=MODEL)]  # fmt: skip
Base = Annotated[str, typer.Option("--base", help="Model directory or hub name.", rich_help_panel=MODEL,
                                   show_default="`base_model` of the stages")]  # fmt: skip
InitFrom = Annotated[Path | None, typer.Option(help="LoRA directory that the first stage goes on from.",
                                               rich_help_panel=MODEL)]  # fmt: skip
Seed = Annotated[int, typer.Option(min=0, help="Of initialization and dropout.", rich_help_panel=SPACE)]
ResumeOptimizer = Annotated[bool, typer.Option("--resume-optimizer", help="Carry AdamW's state from stage to stage.",
                                               rich_help_panel=RUN)]  # fmt: skip


def main(study: Study) -> None:
    """Run the command line of a curriculum and exit with a documented code."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

    @app.command(help=f"{study.question}\n\n{EXIT_CODES}")
    def command(  # noqa: PLR0913, PLR0917 one function is the whole command line
        context: typer.Context,
        files: Files = None, stages: FilesOption = None, base: Base = "", init_from: InitFrom = None,
        steps: Steps = 0, eval_every: EvalEvery = 0, seed: Seed = 0, resume_optimizer: ResumeOptimizer = False,
        storage: Storage = Path("runs"), experiment: Experiment = "", tracking_uri: Tracking = "",
        address: Address = "", dry_run: DryRun = False, force: Force = False, resume: Resume = False,
        sync: Sync = False,
    ) -> None:  # fmt: skip
        from sweeps.execution.options import Launch

        launch = Launch(
            storage=storage, experiment=experiment or None, tracking_uri=tracking_uri or None,
            address=address or None, base=base or None, force=force,
            command=shlex.join(["python", "-m", f"sweeps.{study.name}", *sys.argv[1:]]),
        )  # fmt: skip

        def act() -> list[Record] | None:
            from sweeps.stages.curriculum import Wish, curriculum

            fixed = {"steps": steps, "eval_every_steps": eval_every, "seed": seed}
            wish = Wish((*(stages or ()), *(files or ())), init_from, {key: n for key, n in fixed.items() if n},
                        "resumed" if resume_optimizer else "fresh")  # fmt: skip
            return act_on(study, launch, context, lambda data: curriculum(study, wish, launch, data / "data-stages"))

        raise typer.Exit(guarded(study, launch, act, again(study, launch)))

    app()


def act_on(
    study: Study, launch: Launch, context: typer.Context, course_below: Callable[[Path], Course]
) -> list[Record] | None:
    """Mirror, finish, show or run a course, as the command line says; `course_below` makes it, its rows in a directory.

    Raises:
        UserError: bad input, before anything is spent.
        KeyboardInterrupt: the launch was stopped.
    """
    from sweeps.cli.main import check_finishing
    from sweeps.launch import checked
    from sweeps.stages.sequence import course_in

    check_finishing(context)
    if context.params["sync"]:
        return sync_records(study, launch)
    if context.params["resume"]:
        return run_and_tell(course_in(study, launch), launch)
    if context.params["dry_run"]:
        with tempfile.TemporaryDirectory() as scratch:
            return show_only(course_below(Path(scratch)), launch)
    checked(launch, launch.directory(study))
    return run_and_tell(course_below(launch.directory(study).parent), launch)


def run_and_tell(course: Course, launch: Launch) -> list[Record]:
    """Run a course and print what came of its stages; returns their records.

    Raises:
        UserError: bad input, before anything is spent.
        KeyboardInterrupt: the launch was stopped.
    """
    from sweeps.stages.report import stage_summary
    from sweeps.stages.run import run_course

    records = run_course(course, launch)
    launch.console.print()
    launch.console.print(stage_summary(course, records), soft_wrap=True, highlight=False)
    return records


def show_only(course: Course, launch: Launch) -> None:
    """Print what a course would do.

    Raises:
        UserError: it would be refused.
    """
    from sweeps.stages.run import admit_all, plan_course, show_course

    plans = plan_course(course, launch)
    show_course(course, plans, launch)
    admit_all(plans, launch)
    launch.console.print("dry run: nothing was written")


def again(study: Study, launch: Launch) -> str:
    """Return the command that finishes what a course began."""
    words = ["python", "-m", f"sweeps.{study.name}", "--resume"]
    words += ["--experiment", launch.experiment] if launch.experiment else []
    words += ["--storage", str(launch.storage)] if launch.storage != Path("runs") else []
    words += ["--tracking-uri", launch.tracking_uri] if launch.tracking_uri else []
    words += ["--address", launch.address] if launch.address else []
    return shlex.join(words)

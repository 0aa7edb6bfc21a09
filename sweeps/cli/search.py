"""The command line of a search; what it shares with the studies' is theirs."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli import study as shared
from sweeps.cli.options import EXIT_CODES, SPACE
from trainables.errors import UserError, nearest

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.execution.schedulers import Scheduler
    from sweeps.hpo.space import Search
    from trainables.record import Record


SamplerName = Annotated[str, typer.Option("--sampler", help="nsga2, tpe, gp or random.", rich_help_panel=SPACE)]
Trials = Annotated[int, typer.Option(min=1, help="Different trials in all.", rich_help_panel=SPACE)]
Cohort = Annotated[int, typer.Option(min=1, help="Trials asked for, and trained, at a time.", rich_help_panel=SPACE)]
Seed = Annotated[int, typer.Option(min=0, help="Of the sampler.", rich_help_panel=SPACE)]
Objectives = Annotated[str, typer.Option(help="Metrics, each NAME or NAME:higher or NAME:lower.",
                                         rich_help_panel=SPACE)]  # fmt: skip
Vary = Annotated[list[str], typer.Option(help="A dimension as rank=8,16 or learning_rate=1e-4..1e-3; repeatable.",
                                         show_default="the search's", rich_help_panel=SPACE)]  # fmt: skip


def main(search: Search) -> None:
    """Run the command line of `search` and exit with a documented code."""
    default_objectives = ",".join(search.objectives)
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

    @app.command(help=f"{search.study.question}\n\n{EXIT_CODES}")
    def command(  # noqa: PLR0913, PLR0917 one function is the whole command line
        sampler: SamplerName = search.sampler, trials: Trials = search.trials, cohort: Cohort = search.cohort,
        seed: Seed = search.seed, objectives: Objectives = default_objectives, vary: Vary = [],  # noqa: B006
        eval_every: shared.EvalEvery = 0,
        base: shared.BaseOption = "", train: shared.Train = None, val: shared.Validation = None,
        ood: shared.Ood = None, drop: shared.Drop = "", storage: shared.Storage = Path("runs"),
        experiment: shared.Experiment = "", tracking_uri: shared.Tracking = "", address: shared.Address = "",
        scheduler: shared.SchedulerName = "",
        scheduler_options: shared.SchedulerOptions = "", dry_run: shared.DryRun = False, force: shared.Force = False,
        resume: shared.Resume = False, sync: shared.Sync = False,
    ) -> None:  # fmt: skip
        from sweeps.execution.options import Launch

        words = ["python", "-m", f"sweeps.{search.study.name}", *sys.argv[1:]]
        launch = Launch(
            storage=storage, experiment=experiment or None, tracking_uri=tracking_uri or None,
            address=address or None, cohort=1 if cohort == 1 else None, base=base or None, train=train, validation=val,
            ood=ood, drop=drop, force=force, command=shlex.join(words),
        )  # fmt: skip

        def act() -> list[Record] | None:
            asked = _asked(search, sampler, objectives, vary)
            every = {"eval_every_steps": eval_every} if eval_every else {}
            study = replace(search.study, settings={**search.study.settings, **every},
                            miniature={**search.study.miniature, **every})  # fmt: skip
            asked = replace(asked, study=study, trials=trials, cohort=cohort, seed=seed)
            scheduled = replace(launch, scheduler=_scheduler(asked, scheduler, scheduler_options))
            if sync:
                return shared.sync_records(search.study, launch)
            return _dry_run(asked, scheduled) if dry_run else _run(asked, scheduled, resume)

        again = shlex.join(words if resume else [*words, "--resume"])
        raise typer.Exit(shared.guarded(search.study, launch, act, again))

    app()


def _asked(search: Search, sampler: str, objectives: str, vary: list[str]) -> Search:
    from sweeps.hpo.space import SAMPLERS, parse_dimensions

    known = [one for one in SAMPLERS if one == sampler]
    if not known:
        raise UserError(
            f"--sampler must be one of {', '.join(SAMPLERS)}, but got `{sampler}`", nearest(sampler, SAMPLERS)
        )
    names = tuple(name.strip() for name in objectives.split(",") if name.strip())
    space = search.space.changed(parse_dimensions(vary))
    return replace(search, sampler=known[0], objectives=names, space=space)


def _scheduler(search: Search, name: str, options: str) -> Scheduler | None:
    """Return the scheduler; where its options name no metric, it looks at the search's only objective."""
    from sweeps.execution.schedulers import parse_scheduler
    from trainables.pareto import parse_objectives

    objectives = parse_objectives(search.objectives)
    if name and len(objectives) == 1 and "metric" not in options:
        options = ",".join(filter(None, (options, f"metric={objectives[0].name}")))
    return parse_scheduler(name, options)


def _run(search: Search, launch: Launch, resume: bool) -> list[Record]:
    from sweeps.hpo.run import run_search

    directory = launch.directory(search.study)
    if resume and not (directory / "search.db").exists():
        raise UserError(
            f"only a search that was begun can be resumed, but {directory} holds none", "run it without --resume"
        )
    return run_search(search, launch)


def _dry_run(search: Search, launch: Launch) -> None:
    from sweeps.hpo.run import plan_search, show_search
    from sweeps.planning.preflight import admit

    with tempfile.TemporaryDirectory() as scratch:
        planned = plan_search(search, launch, Path(scratch))
    show_search(search, planned, launch)
    admit(planned.preflight, launch.force)
    launch.console.print("dry run: nothing was written")

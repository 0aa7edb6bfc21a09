"""The command line of a progressive unfreezing: each arm of the study extends the best of the one before."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.curriculum import InitFrom, Seed, act_on, again
from sweeps.cli.main import guarded
from sweeps.cli.options import (
    EXIT_CODES,
    SPACE,
    Address,
    BaseOption,
    DryRun,
    Epochs,
    EvalEvery,
    Experiment,
    Force,
    Ood,
    Resume,
    Set,
    Steps,
    Storage,
    Sync,
    Tracking,
    Train,
    Validation,
)
from sweeps.stages.unfreezing import unfreezing
from sweeps.study import Study

if TYPE_CHECKING:
    from trainables.record import Record


OneRank = Annotated[int, typer.Option("--rank", min=0, help="Of all steps; alpha keeps its ratio.",
                                      show_default="the study's", rich_help_panel=SPACE)]  # fmt: skip
OneRate = Annotated[float, typer.Option("--lr", min=0, help="Language rate; vision keeps its ratio.",
                                        show_default="the study's", rich_help_panel=SPACE)]  # fmt: skip
OneQuant = Annotated[str, typer.Option("--quant", help="none, int8, fp4, nf4 or nf4-double.",
                                       show_default="the study's", rich_help_panel=SPACE)]  # fmt: skip


def main(study: Study) -> None:
    """Run the command line of an unfreezing and exit with a documented code."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

    @app.command(help=f"{study.question}\n\n{EXIT_CODES}")
    def command(  # noqa: PLR0913, PLR0917 one function is the whole command line
        context: typer.Context,
        base: BaseOption = "", train: Train = None, val: Validation = None, ood: Ood = None,
        init_from: InitFrom = None, rank: OneRank = 0, rate: OneRate = 0.0, quant: OneQuant = "",
        steps: Steps = 0, epochs: Epochs = 0.0, eval_every: EvalEvery = 0, seed: Seed = 0, other: Set = "",
        storage: Storage = Path("runs"), experiment: Experiment = "", tracking_uri: Tracking = "",
        address: Address = "", dry_run: DryRun = False, force: Force = False, resume: Resume = False,
        sync: Sync = False,
    ) -> None:  # fmt: skip
        from sweeps.execution.options import Launch

        launch = Launch(
            storage=storage, experiment=experiment or None, tracking_uri=tracking_uri or None,
            address=address or None, base=base or None, train=train, validation=val, ood=ood, force=force,
            command=shlex.join(["python", "-m", f"sweeps.{study.name}", *sys.argv[1:]]),
        )  # fmt: skip
        fixed = {"steps": steps, "epochs": epochs, "eval_every_steps": eval_every, "seed": seed}

        def act() -> list[Record] | None:
            from sweeps.planning.overrides import parse_settings
            from sweeps.planning.space import Axes

            given = {**parse_settings(other), **{key: value for key, value in fixed.items() if value}}
            axes = Axes(ranks=(rank,) if rank else (), learning_rates=(rate,) if rate else (),
                        quantizations=(quant,) if quant else (), fixed=given, init_from=init_from)  # type: ignore[arg-type] # fmt: skip
            return act_on(study, launch, context, lambda below: unfreezing(study, axes, launch, below / "data"))

        raise typer.Exit(guarded(study, launch, act, again(study, launch)))

    app()

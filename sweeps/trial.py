"""One trial from a configuration: of axolotl, ms-swift or LLaMA-Factory, or our own spec.json; and axes around it.

python -m sweeps.trial CONFIG.yaml --ood ood.jsonl --dry-run
python -m sweeps.trial CONFIG.yaml --ood ood.jsonl --space "rank=4,8;language=2,4"
python -m sweeps.trial CONFIG.yaml --base mini              its settings on the embedded miniature, or mini-text
python -m sweeps.trial runs/stage4/trials/C2-…/best/provenance.json --space "seeds=3"
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.cli.main import guarded
from sweeps.cli.options import (
    EXIT_CODES,
    MODEL,
    RUN,
    SPACE,
    Address,
    Cohort,
    Drop,
    DryRun,
    Epochs,
    EvalEvery,
    Force,
    Ood,
    Resume,
    Steps,
    Storage,
    Tracking,
    Train,
    Validation,
)
from sweeps.importers.space_option import space_in
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.importers.config import ImportedTrial
    from sweeps.study import Study
    from trainables.record import Record
    from trainables.spec import TrialSpec


NAME = "trial"
QUESTION = "What does this configuration give, held against its base?"
TRIAL_FILES = ("spec.json", "provenance.json")

Config = Annotated[Path, typer.Argument(help="A YAML of axolotl, ms-swift or LLaMA-Factory; a spec.json; a "
                                        "provenance.json.")]  # fmt: skip
Form = Annotated[str, typer.Option("--format", help="axolotl, ms-swift or llamafactory.", show_default="told by keys",
                                   rich_help_panel=MODEL)]  # fmt: skip
Base = Annotated[str, typer.Option("--base", help="Model directory or hub name; mini, mini-text: the miniatures.",
                                   show_default="the file's", rich_help_panel=MODEL)]  # fmt: skip
Space = Annotated[str, typer.Option(help="Axes around it: rank=4,8;language=2,4. Also vision, learning_rate, "
                                    "quantization, seeds.", rich_help_panel=SPACE)]  # fmt: skip
ExperimentOfFile = Annotated[str, typer.Option("--experiment", help="Its name.", show_default="the file's",
                                               rich_help_panel=RUN)]  # fmt: skip


@dataclass(frozen=True)
class Asking:
    """What the command line asks for: the configuration, and what is varied or replaced of it."""

    config: Path
    form: str = ""
    space: str = ""
    steps: int = 0
    epochs: float = 0.0
    eval_every_steps: int = 0

    def check(self) -> None:
        """Refuse what needs no file to be refused.

        Raises:
            UserError: the budget is set twice, or an axis is none.
        """
        if self.steps and self.epochs:
            raise UserError("--steps and --epochs both set the budget, but only one of them may be given")
        space_in(self.space)

    def replaced(self) -> dict[str, Any]:
        """Return the settings the command line replaces."""
        given = {"steps": self.steps, "epochs": self.epochs, "eval_every_steps": self.eval_every_steps}
        return {name: value for name, value in given.items() if value}


def main() -> None:
    """Run the command line and exit with a documented code."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

    @app.command(help=f"{QUESTION}\n\n{EXIT_CODES}")
    def command(  # noqa: PLR0913, PLR0917 one function is the whole command line
        config: Config, space: Space = "", steps: Steps = 0, epochs: Epochs = 0.0, eval_every: EvalEvery = 0,
        form: Form = "",
        base: Base = "", train: Train = None, val: Validation = None, ood: Ood = None,
        drop: Drop = "", storage: Storage = Path("runs"), experiment: ExperimentOfFile = "",
        tracking_uri: Tracking = "", address: Address = "", cohort: Cohort = 0, dry_run: DryRun = False,
        force: Force = False, resume: Resume = False,
    ) -> None:  # fmt: skip
        from sweeps.execution.options import Launch

        launch = Launch(
            storage=storage, experiment=experiment or _name_of(config), tracking_uri=tracking_uri or None,
            address=address or None, cohort=cohort or None, base=base or None, train=train, validation=val, ood=ood,
            drop=drop, force=force, command=shlex.join(["python", "-m", "sweeps.trial", *sys.argv[1:]]),
        )  # fmt: skip
        asked = Asking(config, form, space, steps, epochs, eval_every)
        raise typer.Exit(_exit_code(asked, launch, dry_run, resume))

    app()


def _exit_code(asking: Asking, launch: Launch, dry_run: bool, resume: bool) -> int:
    from sweeps.launch import resume as resume_records

    study = _study_of({}, ())

    def act() -> list[Record] | None:
        asking.check()
        if dry_run:
            return _dry_run(asking, launch)
        return resume_records(study, launch) if resume else _run(asking, launch)

    again = launch.command if resume else f"{launch.command} --resume"
    return guarded(study, launch, act, again)


def _dry_run(asking: Asking, launch: Launch) -> None:
    from sweeps.importers.config import read_config
    from sweeps.launch import plan_specs, show
    from sweeps.planning.preflight import admit

    with tempfile.TemporaryDirectory() as scratch:
        read = read_config(asking.config, asking.form, launch, Path(scratch) / "data", asking.replaced())
        _show(read, launch)
        study, specs = trials_of(read, asking)
        planned = plan_specs(study, specs, read.sources, launch)
    show(study, planned, launch)
    admit(planned.preflight, launch.force)
    launch.console.print("dry run: nothing was written")


def _run(asking: Asking, launch: Launch) -> list[Record]:
    from sweeps.importers.config import read_config
    from sweeps.launch import checked, plan_specs, run_planned
    from sweeps.planning.preflight import admit
    from trainables.io.files import write_json

    directory = launch.directory(_study_of({}, ()))
    checked(launch, directory)
    read = read_config(asking.config, asking.form, launch, directory.parent / "data", asking.replaced())
    _show(read, launch)
    study, specs = trials_of(read, asking)
    planned = plan_specs(study, specs, read.sources, launch)
    admit(planned.preflight, launch.force)
    if read.kept:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "import.json", read.kept)
    return run_planned(study, planned, launch)


def trials_of(read: ImportedTrial, asking: Asking) -> tuple[Study, list[TrialSpec]]:
    """Return the study of one trial and the axes around it, baseline first.

    Raises:
        UserError: an axis or a value is none.
    """
    from sweeps.importers.space_option import around
    from sweeps.planning.space import expand

    axes, arms = around(space_in(asking.space), read.placement)
    study = _study_of(read.settings, arms)
    return study, expand(study, replace(axes, fixed=asking.replaced()), read.sources)


def _study_of(settings: dict[str, Any], arms: tuple[Any, ...]) -> Study:
    from sweeps.study import Study

    return Study(name=NAME, question=QUESTION, arms=arms, settings=settings)


def _name_of(config: Path) -> str:
    if config.name not in TRIAL_FILES:
        return config.stem
    record = config.resolve().parent
    return (record.parent if record.name == "best" else record).name.rsplit("-", 1)[0]


def _show(read: ImportedTrial, launch: Launch) -> None:
    for part in read.shown:
        launch.console.print(part, highlight=False)
        launch.console.print()


if __name__ == "__main__":
    main()

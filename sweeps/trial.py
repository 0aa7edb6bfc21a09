"""Runs one trial from a configuration of axolotl, ms-swift or LLaMA-Factory, or from a spec.json, and variants of it.

python -m sweeps.trial CONFIG.yaml --ood ood.jsonl --dry-run
python -m sweeps.trial CONFIG.yaml --ood ood.jsonl --space "rank=4,8;language=2,4"
python -m sweeps.trial CONFIG.yaml --base mini              the same settings on the embedded miniature, or mini-text
python -m sweeps.trial runs/stage4/trials/C2-…/best/provenance.json --space "seeds=3"
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.cli.command_line import CommandLine
from sweeps.cli.main import run_command_line
from sweeps.cli.options import BUDGET, DATA, HOLDOUT, MODEL, OUTPUT, SPACE, LaunchOptions, argument, option
from sweeps.importers.documents import RECORD_FILES
from sweeps.importers.space_option import space_in
from sweeps.study import Study

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.importers.config import ImportedTrial
    from sweeps.launch import ResumedStudy
    from sweeps.planning.plan import Plan
    from sweeps.planning.preflight import Preflight
    from trainables.record import Record
    from trainables.spec import Format, TrialSpec


TRIAL_STUDY = Study(name="trial", question="What does this configuration give, compared with its base?", arms=())


@dataclass(frozen=True)
class TrialOptions:
    """The configuration, and the axes to vary."""

    config: Path = field(metadata=argument())
    """YAML or JSON file of axolotl, ms-swift or LLaMA-Factory, or a spec.json or provenance.json."""
    space: str = field(default="", metadata=option(SPACE, shown_default="the configuration alone"))
    """Axes to vary: rank=4,8;language=2,4. Also vision, learning_rate, quantization, seeds."""
    format: str = field(default="", metadata=option(MODEL, shown_default="detected from its keys"))
    """Format of the configuration: axolotl, ms-swift or llamafactory."""


SHARED = (
    *BUDGET, *DATA, *HOLDOUT, "drop", "storage", "experiment", "tracking_uri", "address", "cohort", "threads", "keep",
    "resident", "price", "memory", "guards", "notify", "dry_run", "force", "steal", "fresh_baseline", *OUTPUT,
    "resume", "sync",
)  # fmt: skip
CHANGED = {
    "base": {
        "help": "Model directory or hub name; mini and mini-text are the miniatures.",
        "shown_default": "the file's",
    },
    "experiment": {"shown_default": "the file's"},
}


@dataclass(frozen=True)
class TrialPlan:
    """The plan of a configuration's trials, and the values that import.json keeps."""

    plan: Plan
    kept: dict[str, Any] | None

    @property
    def preflight(self) -> Preflight:
        """Return the results of the preflight checks."""
        return self.plan.preflight


@dataclass(frozen=True)
class TrialJob:
    """The job of a configuration: its trial, and the variants along the axes."""

    study: Study
    launch: Launch
    given: TrialOptions
    replaced: dict[str, Any]

    def plan(self, data_directory: Path) -> TrialPlan:
        """Read the configuration, print how each of its keys is interpreted, and check the trials."""
        from sweeps.execution.experiment import Experiment
        from sweeps.importers.config import read_config
        from sweeps.importers.packing import packing_finding
        from sweeps.planning.plan import plan_specs
        from sweeps.study import as_begun
        from trainables.spec import FORMAT

        begun = Experiment(self.launch.directory(self.study)).begun
        read = read_config(self.given.config, self.given.format, self.launch, data_directory, self.replaced, begun)
        for part in read.shown:
            self.launch.console.print(part, highlight=False)
            self.launch.console.print()
        study, specs = trials_of(read, self.given.space, self.replaced, begun.format)
        begun_study = as_begun(study, FORMAT, self.launch.reading)
        plan = plan_specs(begun_study, specs, read.sources, self.launch.resident, self.launch.devices)
        if read.packed:
            told = packing_finding(read.packed, plan.preflight.data["train"], specs[-1])
            plan = replace(plan, preflight=replace(plan.preflight, findings=(*plan.preflight.findings, told)))
        return TrialPlan(plan, read.kept)

    def show(self, planned: TrialPlan) -> None:
        """Print the trials, a summary of the data, and the findings of preflight."""
        from sweeps.launch import show_plan

        show_plan(planned.plan.active.study, planned.plan, self.launch)

    def trials(self, planned: TrialPlan) -> list[TrialSpec]:
        """Return the trials, baseline first."""
        return planned.plan.specs

    def check(self, planned: TrialPlan) -> None:
        """Refuse what `run` would refuse; writes nothing."""
        from sweeps.launch import check_plan

        check_plan(planned.plan, self.launch)

    def run(self, planned: TrialPlan) -> list[Record]:
        """Run the trials, baseline first."""
        from sweeps.launch import run_plan
        from sweeps.planning.preflight import admit
        from trainables.io.files import write_json

        admit(planned.preflight, self.launch.force)
        if planned.kept:
            directory = self.launch.directory(self.study)
            directory.mkdir(parents=True, exist_ok=True)
            write_json(directory / "import.json", planned.kept)
        return run_plan(planned.plan, self.launch)


def main() -> None:
    """Run the command line and exit with a documented code."""
    run_command_line(line_of(TRIAL_STUDY))


def line_of(study: Study) -> CommandLine[TrialOptions]:
    """Return the command line of a configuration's trial."""

    def job(given: TrialOptions, shared: LaunchOptions, launch: Launch) -> TrialJob | ResumedStudy:
        return job_of(study, given, shared, launch)

    return CommandLine(study, TrialOptions, SHARED, job, CHANGED, resume_takes_all_options=True, experiment_of=name_of)


def job_of(study: Study, given: TrialOptions, shared: LaunchOptions, launch: Launch) -> TrialJob | ResumedStudy:
    """Return the job that the options describe.

    Raises:
        UserError: the budget is given twice, an axis is unknown, or there is nothing to resume.
    """
    from sweeps.launch import resumed

    space_in(given.space)
    replaced = shared.fixed()
    if shared.resume and not shared.dry_run:
        return resumed(study, launch)
    return TrialJob(study, launch, given, replaced)


def trials_of(
    read: ImportedTrial, space: str, replaced: dict[str, Any], spec_format: Format
) -> tuple[Study, list[TrialSpec]]:  # fmt: skip
    """Return the study of a configuration, and its trials, baseline first.

    Raises:
        UserError: an axis is unknown, or a value is out of range.
    """
    from sweeps.importers.space_option import around
    from sweeps.planning.space import expand

    axes, arms = around(space_in(space), read.placement)
    has_own_budget = not {"steps", "epochs"} & replaced.keys()  # for which the file chose its evals
    study = replace(TRIAL_STUDY, arms=arms, settings=read.settings, chosen_evals=has_own_budget)
    return study, expand(study, replace(axes, fixed=replaced), read.sources, read.format or spec_format)


def name_of(given: TrialOptions) -> str:
    """Return the name of a configuration's experiment: that of the file, or of the trial that it belongs to."""
    config = given.config
    if config.name not in RECORD_FILES:
        return config.stem
    record = config.resolve().parent
    return (record.parent if record.name == "best" else record).name.rsplit("-", 1)[0]


if __name__ == "__main__":
    main()

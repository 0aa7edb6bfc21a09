"""The command line of a study as a value: its options, and the job and launch that they describe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sweeps.cli.options import ACCEPTED_BY_RESUME, LaunchOptions
from sweeps.cli.signature import Parameter, parameters_of
from sweeps.study import Study

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.job import Job

OwnT = TypeVar("OwnT")


@dataclass(frozen=True)
class CommandLine(Generic[OwnT]):
    """The command line of a study: its own options, the shared options it accepts, and a function that makes the job.

    `changed` replaces values of parameters, as in `parameters_of`. `--resume` accepts all options with
    `resume_takes_all_options`, otherwise only those in `ACCEPTED_BY_RESUME`. `experiment_of` names the experiment after
    the own options; None uses the name of the study. `begun` matches a file of every experiment that can be resumed.
    `program` is how the user calls it, as printed commands do. `config` is the file that it was configured with, and
    `with_study` returns the command line of the same study with other values.
    """

    study: Study
    own: type[OwnT]
    shared: tuple[str, ...]
    job: Callable[[OwnT, LaunchOptions, Launch], Job[Any]]
    changed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resume_takes_all_options: bool = False
    experiment_of: Callable[[OwnT], str] | None = None
    begun: str = "trials/*/spec.json"
    program: str = ""
    config: Path | None = None
    with_study: Callable[[Study], CommandLine[OwnT]] | None = None

    @property
    def words(self) -> list[str]:
        """Return the words that call it."""
        return self.program.split() or ["python", "-m", f"sweeps.{self.study.name}"]

    def parameters(self) -> list[Parameter]:
        """Return all parameters, its own first."""
        own = parameters_of(self.own, None, self.changed)
        return [*own, *parameters_of(LaunchOptions, self.shared, self.changed)]

    def accepted_by_resume(self) -> Collection[str]:
        """Return the names of the parameters that `--resume` accepts."""
        names = [one.name for one in self.parameters()]
        return names if self.resume_takes_all_options else ACCEPTED_BY_RESUME

    def launch(self, own: OwnT, shared: LaunchOptions, command: str) -> Launch:
        """Return the launch of these options."""
        launch = shared.launch(command)
        if launch.experiment is None and self.experiment_of is not None:
            return replace(launch, experiment=self.experiment_of(own))
        return launch

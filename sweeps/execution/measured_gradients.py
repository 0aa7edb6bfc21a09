"""Measures gradients for `--layers gradient` in another process, once, and keeps them in the experiment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from sweeps.planning.layers import Norms
from trainables.errors import UserError
from trainables.gradient_norms import GradientJob, GradientNorms, GradientSource
from trainables.io.files import FileDamaged, read_json, write_json
from trainables.model.families import family_of
from trainables.spec import TrialSpec

FILE, WORKER = "gradients.json", "trainables.training.layer_gradients"


@dataclass
class MeasuredGradients:
    """The gradients that an experiment keeps, and those measured since; calling it returns those of a trial."""

    console: Console
    found: dict[GradientSource, GradientNorms] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Path, console: Console) -> MeasuredGradients:
        """Return the gradients that the experiment in a directory keeps.

        Raises:
            FileDamaged: the file is not as it was written.
        """
        kept = kept_gradients(experiment)
        return cls(console, {one.source: one for one in kept})

    def __call__(self, spec: TrialSpec) -> Norms:
        """Return the norm of each layer for a trial, over its kind of linears; measure them if they are not known.

        Raises:
            UserError: they cannot be measured, or are 0 in a whole tower that the trial adapts.
        """
        source = GradientSource.of(spec)
        if source not in self.found:
            self.console.print(f"measuring the gradient of every layer (base in {spec.quantization})", soft_wrap=True)
            self.found[source] = measured_in_another_process(spec)
        family, config = family_of(spec.base.path)
        norms = self.found[source].by_layer(family.towers(config), spec.placement.modules)
        for tower, values in norms.items():
            if spec.placement.count(tower) and not any(values):
                raise UserError(
                    f"layers can be chosen by their gradient where there is one, but that of the {tower} tower is 0 "
                    f"on the first {self.found[source].rows} training rows",
                    "put rows with pictures first, or choose --layers last",
                )
        return norms


def keep_gradients(experiment: Path, measured: Sequence[GradientNorms]) -> None:
    """Write the gradients into an experiment, which later launches read, if there are any."""
    if measured:
        write_json(experiment / FILE, [one.model_dump(mode="json") for one in measured])


def kept_gradients(experiment: Path) -> list[GradientNorms]:
    """Return the gradients that an experiment keeps, none where no layer was chosen by them.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    path = experiment / FILE
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[GradientNorms]).validate_python(read_json(path))
    except ValidationError as error:
        raise FileDamaged(f"{path} must hold measured gradients, but {str(error).splitlines()[0]}",
                          "remove it, and they are measured again") from None  # fmt: skip


def measured_in_another_process(spec: TrialSpec) -> GradientNorms:
    """Load the base, measure, and end, so that the launch does not hold the base.

    Raises:
        UserError: the process failed; its own message is above this one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job = GradientJob(spec=spec, result=Path(scratch) / "gradients.json")
        file = Path(scratch) / "job.json"
        write_json(file, job.model_dump(mode="json"))
        done = subprocess.run([sys.executable, "-P", "-m", WORKER, str(file)], stdout=sys.stderr, check=False)  # noqa: S603
        if done.returncode != 0:
            raise UserError(
                f"the gradient of every layer must be measured for --layers gradient, but the process that measures "
                f"it ended with code {done.returncode}",
                "its own message is above; --layers last needs no measurement",
            )
        return GradientNorms.model_validate(read_json(job.result))

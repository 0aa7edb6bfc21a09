"""A course: the stages of a launch as values, how each goes on from the one before, and how it is kept for `--resume`.

A curriculum continues one adapter on new data (`same`, from the last checkpoint: the model that training left); an
unfreezing adds modules to it (`extended`, from the best: what is built upon must be admissible). Source: briefs 000
and 001.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sweeps.execution.options import Launch
from sweeps.planning.forecast import Forecast
from sweeps.planning.sources import Sources, reported_by
from sweeps.study import Study
from trainables.checkpoints.adapter import SavedAdapter, adapter_source
from trainables.checkpoints.compatibility import check_continues
from trainables.errors import UserError
from trainables.guards import Fall
from trainables.io.files import FileDamaged, read_json
from trainables.model.families import family_of
from trainables.probes.earlier_stages import accuracy_name
from trainables.record import MANIFEST, Record, is_whole
from trainables.spec import TrialSpec, parse_spec, read_spec

COURSE = "course.json"
MOST_POINTS_FORGOTTEN = 0.10  # of an earlier stage's token accuracy, against the hand-over; brief 000 lost 27
PATIENCE_EVALS = 2

Continuation = Literal["same", "extended"]
Optimizer = Literal["fresh", "resumed"]


@dataclass(frozen=True)
class Leg:
    """One stage: its trial as far as it is known before its parent has been trained, and what it reads."""

    spec: TrialSpec
    sources: Sources


@dataclass(frozen=True)
class Course:
    """All stages of a launch, and how each goes on from the one before; `start` is what the first one continues."""

    study: Study
    legs: tuple[Leg, ...]
    continuation: Continuation
    optimizer: Optimizer = "fresh"
    start: Path | None = None

    def baseline(self, number: int) -> TrialSpec:
        """Return the trial that stage `number` is held against; stages that read the same rows share it."""
        spec = self.legs[number].spec.baseline()
        shared = len({leg.spec.baseline().trial_id for leg in self.legs}) == 1
        return spec.model_copy(update={"name": "A0" if shared else f"A0-{self.legs[number].spec.name}"})

    def first(self) -> TrialSpec:
        """Return the trial of the first stage; what it is given to start from goes on as later stages do.

        Raises:
            UserError: `start` holds no adapter, or no optimizer to resume.
        """
        spec = self.legs[0].spec
        return continued(spec, self.start, self.continuation, self.optimizer) if self.start else spec

    def study_of(self, number: int) -> Study:
        """Return the study with the guards of one stage: what earlier stages taught must not be forgotten."""
        earlier = range(1, len(self.legs[number].spec.earlier) + 1)
        kept = tuple(Fall(accuracy_name(one), MOST_POINTS_FORGOTTEN, PATIENCE_EVALS) for one in earlier)
        return replace(self.study, guards=(*self.study.guards, *kept))

    def can_go_on(self, record: Record) -> bool:
        """True when a stage can be built upon: its guards held to the end; an extension needs an admissible best."""
        verdict = record.verdict()
        completed = verdict is not None and verdict.kind == "completed"
        return completed and (self.continuation == "same" or record.best() is not None)

    def from_parent(self, number: int, record: Record) -> TrialSpec:
        """Return the trial of stage `number` as it goes on from the stage before, which ended well.

        Raises:
            FileDamaged: the parent's adapter is not what was written: its hash would name another trial.
            UserError: there is no optimizer to resume.
        """
        spec = self.legs[number].spec
        same = self.continuation == "same"
        directory = record.checkpoint(record.spec().steps) if same else record.directory / "best"
        if not is_whole(directory):
            raise FileDamaged(
                f"{directory}: what stage {spec.name} goes on from must be as it was written, but it does not match "
                f"its {MANIFEST}",
                f"put the directory back from a copy, or delete {record.directory} to train that stage again, and "
                "with it all that follow",
            )
        return continued(spec, directory, self.continuation, self.optimizer)


def continued(spec: TrialSpec, directory: Path, continuation: Continuation, optimizer: Optimizer) -> TrialSpec:
    """Return the spec as it goes on from an adapter.

    Raises:
        UserError: the directory holds no adapter, or no optimizer to resume.
    """
    parent = adapter_source(directory, optimizer)
    changes = {"init_from": parent, "continuation": continuation, "optimizer": optimizer}
    return parse_spec({**spec.model_dump(), **changes}, where=f"stage {spec.name}")


def check_goes_on(before: Forecast, after: Forecast, continuation: Continuation) -> None:
    """Refuse a stage that cannot go on from the adapter that the one before will leave; nothing is read.

    Raises:
        UserError: naming both stages and everything that differs.
    """
    linears = [linear for group in before.placement.linears.values() for linear in group]
    saved = SavedAdapter(
        directory=Path(before.spec.name),
        rank=before.spec.rank,
        alpha=before.spec.alpha,
        rslora=before.spec.rslora,
        modules={linear.name: (before.spec.rank, linear.inputs, linear.outputs) for linear in linears},
        base_name=None,
        base_sha256=before.spec.base.sha256,
    )
    try:
        check_continues(saved, after.spec.model_copy(update={"continuation": continuation}), after.placement)
    except UserError as error:
        message = f"stage {after.spec.name} must go on from {before.spec.name}, but\n{error.message}"
        raise UserError(message, error.hint) from None


# -------------------------------------------------------------------- what is written down
def configuration_of_course(course: Course) -> dict[str, Any]:
    """Return what an experiment keeps to refuse another course under its name."""
    shared = {
        "base": course.legs[0].spec.base.sha256,
        "continuation": course.continuation,
        "optimizer": course.optimizer,
        "start": adapter_source(course.start, course.optimizer).sha256 if course.start else None,
        "guards": [{"rule": type(guard).__name__, **asdict(guard)} for guard in course.study.guards],
        "constraint": asdict(course.study.constraint),
    }
    keys = ("learning_rate", "steps", "effective_rows", "eval_every_steps")
    stages = {
        leg.spec.name: {"id": leg.spec.trial_id, **{key: getattr(leg.spec, key) for key in keys}} for leg in course.legs
    }
    return shared | stages


def course_as_json(course: Course) -> dict[str, Any]:
    """Return a course as plain values, all that `--resume` needs beside the study."""
    legs = [
        {
            "spec": leg.spec.model_dump(mode="json"),
            "train_rows": leg.sources.train_rows,
            "is_miniature": leg.sources.is_miniature,
        }
        for leg in course.legs
    ]
    start = str(course.start) if course.start else None
    return {"continuation": course.continuation, "optimizer": course.optimizer, "start": start, "legs": legs}


def course_in(study: Study, launch: Launch) -> Course:
    """Read back the course that an experiment began.

    Raises:
        UserError: the experiment has none.
    """
    path = launch.directory(study) / COURSE
    if not path.is_file():
        raise UserError(
            f"only an experiment that was begun can be resumed, but {path.parent} holds no {COURSE}",
            "run it without --resume",
        )
    kept = read_json(path)
    return Course(
        study=study,
        legs=tuple(_leg(one, str(path)) for one in kept["legs"]),
        continuation=kept["continuation"],
        optimizer=kept["optimizer"],
        start=Path(kept["start"]) if kept["start"] else None,
    )


def _leg(kept: dict[str, Any], where: str) -> Leg:
    spec = read_spec(kept["spec"], where)
    sources = Sources(
        **{key: getattr(spec, key) for key in ("base", "train", "validation", "ood")},
        train_rows=kept["train_rows"],
        is_miniature=kept["is_miniature"],
        sees=family_of(spec.base.path)[0].sees,
        reported=reported_by(spec),
    )
    return Leg(spec, sources)

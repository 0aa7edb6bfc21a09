"""A staged study as a value: its stages, how each starts from the one before, and the file that keeps it.

A curriculum continues one adapter on new data (`same`: from the last checkpoint). An unfreezing adds modules to it
(`extended`: from the best checkpoint, which must be admissible).
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
from trainables.guards import Fall, described
from trainables.io.files import FileDamaged, read_json
from trainables.model.families import family_of
from trainables.probes.earlier_stages import accuracy_name
from trainables.record import MANIFEST, Record, is_whole
from trainables.spec import BASELINE_ARM, TrialSpec, parse_spec, read_spec

STAGES_FILE = "course.json"  # its name and its key `legs` are those of the first format
MAX_ACCURACY_DROP = 0.10  # of the token accuracy that an earlier stage ended with
PATIENCE_EVALS = 2

Continuation = Literal["same", "extended"]
Optimizer = Literal["fresh", "resumed"]


@dataclass(frozen=True)
class Stage:
    """One stage: its trial, as far as it is known before the stage before has been trained, and what it reads."""

    spec: TrialSpec
    sources: Sources


@dataclass(frozen=True)
class StagedStudy:
    """The stages of a launch, in order; `start` is the adapter that the first one starts from."""

    study: Study
    stages: tuple[Stage, ...]
    continuation: Continuation
    optimizer: Optimizer = "fresh"
    start: Path | None = None

    def baseline(self, number: int) -> TrialSpec:
        """Return the trial that stage `number` is compared with; stages that read the same rows share it."""
        spec = self.stages[number].spec.baseline()
        is_shared = len({stage.spec.baseline().trial_id for stage in self.stages}) == 1
        name = BASELINE_ARM if is_shared else f"{BASELINE_ARM}-{self.stages[number].spec.name}"
        return spec.model_copy(update={"name": name})

    def first(self) -> TrialSpec:
        """Return the trial of the first stage; it starts from `start` as later stages do from the stage before.

        Raises:
            UserError: `start` holds no adapter, or no optimizer state to resume.
        """
        spec = self.stages[0].spec
        return continued(spec, self.start, self.continuation, self.optimizer) if self.start else spec

    def study_of(self, number: int) -> Study:
        """Return the study with the guards of one stage, among them one for every earlier stage's rows."""
        earlier = range(1, len(self.stages[number].spec.earlier) + 1)
        kept = tuple(Fall(accuracy_name(one), MAX_ACCURACY_DROP, PATIENCE_EVALS) for one in earlier)
        return replace(self.study, guards=(*self.study.guards, *kept))

    def can_continue(self, record: Record) -> bool:
        """True when the next stage can start from this one: it completed and, to be extended, has a best."""
        verdict = record.verdict()
        is_completed = verdict is not None and verdict.kind == "completed"
        return is_completed and (self.continuation == "same" or record.best() is not None)

    def from_parent(self, number: int, record: Record) -> TrialSpec:
        """Return the trial of stage `number` as it starts from the stage before, whose record is given.

        Raises:
            FileDamaged: the parent's adapter does not match its manifest.
            UserError: there is no optimizer state to resume.
        """
        spec = self.stages[number].spec
        is_same = self.continuation == "same"
        directory = record.checkpoint(record.spec().steps) if is_same else record.directory / "best"
        if not is_whole(directory):
            raise FileDamaged(
                f"{directory}: the adapter that stage {spec.name} starts from must match its {MANIFEST}, but it does "
                "not",
                f"restore the directory from a copy, or delete {record.directory} to train that stage, and all that "
                "follow, again",
            )
        return continued(spec, directory, self.continuation, self.optimizer)


def continued(spec: TrialSpec, directory: Path, continuation: Continuation, optimizer: Optimizer) -> TrialSpec:
    """Return the spec as it starts from an adapter.

    Raises:
        UserError: the directory holds no adapter, or no optimizer state to resume.
    """
    parent = adapter_source(directory, optimizer)
    changes = {"init_from": parent, "continuation": continuation, "optimizer": optimizer}
    return parse_spec({**spec.model_dump(), **changes}, where=f"stage {spec.name}")


def check_continuation(before: Forecast, after: Forecast, continuation: Continuation) -> None:
    """Refuse a stage that cannot start from the adapter that the one before will write; nothing is read.

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
        message = f"stage {after.spec.name} must continue {before.spec.name}, but\n{error.message}"
        raise UserError(message, error.hint) from None


# -------------------------------------------------------------------- what is written down
def configuration_of_stages(staged: StagedStudy) -> dict[str, Any]:
    """Return what `study.json` keeps, so that other stages under the same name are refused."""
    shared = {
        "format": staged.stages[0].spec.format,
        "base": staged.stages[0].spec.base.sha256,
        "continuation": staged.continuation,
        "optimizer": staged.optimizer,
        "start": adapter_source(staged.start, staged.optimizer).sha256 if staged.start else None,
        "guards": [described(guard) for guard in staged.study.guards],
        "constraint": asdict(staged.study.constraint),
    }
    keys = ("learning_rate", "steps", "effective_rows", "eval_every_steps")
    specs = [stage.spec for stage in staged.stages]
    return shared | {one.name: {"id": one.trial_id, **{key: getattr(one, key) for key in keys}} for one in specs}


def as_json(staged: StagedStudy) -> dict[str, Any]:
    """Return plain values: all that `--resume` needs besides the study."""
    stages = [
        {
            "spec": stage.spec.model_dump(mode="json"),
            "train_rows": stage.sources.train_rows,
            "is_miniature": stage.sources.is_miniature,
        }
        for stage in staged.stages
    ]
    start = str(staged.start) if staged.start else None
    return {"continuation": staged.continuation, "optimizer": staged.optimizer, "start": start, "legs": stages}


def begun_stages(study: Study, launch: Launch) -> StagedStudy:
    """Read the staged study that an experiment began.

    Raises:
        UserError: the experiment has none.
    """
    path = launch.directory(study) / STAGES_FILE
    if not path.is_file():
        raise UserError(
            f"only an experiment that was begun can be resumed, but {path.parent} holds no {STAGES_FILE}",
            "run it without --resume",
        )
    kept = read_json(path)
    return StagedStudy(
        study=study,
        stages=tuple(_stage(one, str(path)) for one in kept["legs"]),
        continuation=kept["continuation"],
        optimizer=kept["optimizer"],
        start=Path(kept["start"]) if kept["start"] else None,
    )


def _stage(kept: dict[str, Any], where: str) -> Stage:
    spec = read_spec(kept["spec"], where)
    sources = Sources(
        **{key: getattr(spec, key) for key in ("base", "train", "validation", "ood")},
        train_rows=kept["train_rows"],
        is_miniature=kept["is_miniature"],
        sees=family_of(spec.base.path)[0].sees,
        reported=reported_by(spec),
    )
    return Stage(spec, sources)

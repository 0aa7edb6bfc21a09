"""The value of a staged study: its stages, how each starts from the one before, and its JSON file.

A curriculum continues the last checkpoint of a stage on new data (continuation `same`). An unfreezing adds modules to
the best checkpoint, which must meet the constraint (continuation `extended`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sweeps.execution.experiment import date_of
from sweeps.execution.options import Launch
from sweeps.planning.forecast import Forecast
from sweeps.planning.sources import Sources, ood_rows_of, reported_by
from sweeps.study import Study, kept_reading, rules_of
from trainables.checkpoints.adapter import SavedAdapter, adapter_source
from trainables.checkpoints.compatibility import check_continues
from trainables.errors import UserError
from trainables.gradient_norms import GradientNorms
from trainables.guards import Fall
from trainables.io.files import FileDamaged, read_json
from trainables.io.manifest import MANIFEST, is_whole
from trainables.model.families import family_of
from trainables.probes.earlier_stages import accuracy_name
from trainables.record import Record
from trainables.spec import BASELINE_ARM, TrialSpec, parse_spec, read_spec

STAGES_FILE = "course.json"  # this name and the key `legs` are kept from format 1
MAX_ACCURACY_DROP = 0.10  # below the token accuracy of an earlier stage at its end
PATIENCE_EVALS = 2

Continuation = Literal["same", "extended"]
Optimizer = Literal["fresh", "resumed"]


@dataclass(frozen=True)
class Stage:
    """One stage: its base and data, and its trial without `init_from`, which the stage before will write."""

    spec: TrialSpec
    sources: Sources


@dataclass(frozen=True)
class StagedStudy:
    """The stages of a launch, in order; `start` is the adapter that the first one starts from.

    `gradients` are what layers were chosen by, if they were.
    """

    study: Study
    stages: tuple[Stage, ...]
    continuation: Continuation
    optimizer: Optimizer = "fresh"
    start: Path | None = None
    gradients: tuple[GradientNorms, ...] = ()

    def baseline(self, number: int) -> TrialSpec:
        """Return the baseline of stage `number`; stages that read the same rows share one."""
        spec = self.stages[number].spec.baseline()
        is_shared = len({stage.spec.baseline().trial_id for stage in self.stages}) == 1
        name = BASELINE_ARM if is_shared else f"{BASELINE_ARM}-{self.stages[number].spec.name}"
        return spec.model_copy(update={"name": name})

    def first(self) -> TrialSpec:
        """Return the trial of the first stage, which continues `start` if there is one.

        Raises:
            UserError: `start` holds no adapter, or no optimizer state to resume.
        """
        spec = self.stages[0].spec
        return continued(spec, self.start, self.continuation, self.optimizer) if self.start else spec

    def study_of(self, number: int) -> Study:
        """Return the study with one additional guard per earlier stage, on the accuracy on that stage's rows."""
        earlier = range(1, len(self.stages[number].spec.earlier) + 1)
        own = tuple(Fall(accuracy_name(one), MAX_ACCURACY_DROP, PATIENCE_EVALS) for one in earlier)
        return replace(self.study, guards=(*self.study.guards, *own))

    def can_continue(self, record: Record) -> bool:
        """True when the next stage can start from this one: it completed and, for `extended`, has a best eval."""
        verdict = record.verdict()
        is_completed = verdict is not None and verdict.kind == "completed"
        return is_completed and (self.continuation == "same" or record.best() is not None)

    def from_parent(self, number: int, record: Record) -> TrialSpec:
        """Return the trial of stage `number`, which starts from the stage before; `record` is that stage's.

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
                f"restore the directory from a copy, or delete {record.directory} to train that stage and all later "
                "ones again",
            )
        return continued(spec, directory, self.continuation, self.optimizer)


def continued(spec: TrialSpec, directory: Path, continuation: Continuation, optimizer: Optimizer) -> TrialSpec:
    """Return the spec with the adapter in `directory` as its start.

    Raises:
        UserError: the directory holds no adapter, or no optimizer state to resume.
    """
    parent = adapter_source(directory, optimizer)
    changes = {"init_from": parent, "continuation": continuation, "optimizer": optimizer}
    return parse_spec({**spec.model_dump(), **changes}, where=f"stage {spec.name}")


def check_continuation(before: Forecast, after: Forecast, continuation: Continuation) -> None:
    """Refuse a stage that cannot start from the adapter that the stage before will write; reads no file.

    Raises:
        UserError: naming both stages and every difference.
    """
    linears = [linear for group in before.placement.linears.values() for linear in group]
    if any(linear.experts > 1 for linear in linears):
        raise UserError(
            f"stage {after.spec.name} must continue {before.spec.name}, whose adapter is on experts: only adapters on "
            "linears can be continued",
            f"place both stages on linears, or train {before.spec.name} alone, merge its adapter with PEFT, "
            f"`merge_and_unload()`, and pass the merged model as --base of {after.spec.name}",
        )
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


# -------------------------------------------------------------------- JSON files
def configuration_of_stages(staged: StagedStudy) -> dict[str, Any]:
    """Return the content of `study.json`, by which other stages under the same experiment name are refused."""
    shared = {
        "format": staged.stages[0].spec.format,
        "base": staged.stages[0].spec.base.sha256,
        "continuation": staged.continuation,
        "optimizer": staged.optimizer,
        "start": adapter_source(staged.start, staged.optimizer).sha256 if staged.start else None,
        **rules_of(staged.study),
    }
    shared |= date_of(staged.stages[0].spec)
    keys = ("learning_rate", "steps", "effective_rows", "eval_every_steps")
    specs = [stage.spec for stage in staged.stages]
    return shared | {one.name: {"id": one.trial_id, **{key: getattr(one, key) for key in keys}} for one in specs}


def as_json(staged: StagedStudy) -> dict[str, Any]:
    """Return the content of `STAGES_FILE`, which `--resume` reads."""
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
    """Read the staged study of an existing experiment.

    Raises:
        FileDamaged: `STAGES_FILE` is damaged.
        UserError: the experiment has no `STAGES_FILE`.
    """
    path = launch.directory(study) / STAGES_FILE
    if not path.is_file():
        raise UserError(
            f"only an experiment that was begun can be resumed, but {path.parent} holds no {STAGES_FILE}",
            "run it without --resume",
        )
    kept, begun = read_json(path), path.parent / "study.json"
    reading = kept_reading(read_json(begun)) if begun.is_file() else "exact"
    try:
        return StagedStudy(
            study=replace(study, reading=reading),
            stages=tuple(_stage(one, str(path)) for one in kept["legs"]),
            continuation=kept["continuation"],
            optimizer=kept["optimizer"],
            start=Path(kept["start"]) if kept["start"] else None,
        )
    except (KeyError, TypeError):
        raise FileDamaged(f"{path}: the stages must be as they were written, but the file has another shape",
                          "restore it from a copy, or begin another experiment with --experiment NAME") \
            from None  # fmt: skip


def _stage(kept: dict[str, Any], where: str) -> Stage:
    spec = read_spec(kept["spec"], where)
    sources = Sources(
        **{key: getattr(spec, key) for key in ("base", "train", "validation", "ood", "template_date")},
        train_rows=kept["train_rows"],
        is_miniature=kept["is_miniature"],
        sees=family_of(spec.base.path)[0].sees,
        reported=reported_by(spec),
        ood_rows=ood_rows_of(spec),
    )
    return Stage(spec, sources)

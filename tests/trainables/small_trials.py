"""Runs trials of a few steps on a few rows of the miniature, and compares equal trials."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from trainables.constraint import CONSTRAINT, BestConstraint, Constraint
from trainables.data.duplicates import digest_of
from trainables.data.ood import needed_kinds, read_ood
from trainables.data.rows import read_rows, read_validation
from trainables.decision import Guard
from trainables.guards import Ceiling
from trainables.mini import BASE_DIRECTORY
from trainables.mini.datasets import Files
from trainables.model.base_files import base_digest
from trainables.model.families import family_of
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import FORMAT, Placement, Source, TrialSpec
from trainables.verdict import Verdict

TRAIN_ROWS, VALIDATION_ROWS = 12, 3
OOD_ROWS = {"irrelevant": 3, "caption": 2, "text": 3}  # the third text is longer than the others
ANYTHING_GOES = BestConstraint(max_irrelevant_pass_drop=1.0, max_hallucination_rise=1.0)
FIRES_AT_SECOND = (Ceiling("eval_loss", max_absolute_rise=-1e9, patience_evals=2),)  # any two evals
CLOCK_METRICS = {"train_seconds", "eval_seconds", "peak_memory_mb"}


@dataclass(frozen=True)
class Sources:
    """The sources of every spec of these tests."""

    base: Source
    train: Source
    validation: Source
    ood: Source

    def spec(self, **changes: Any) -> TrialSpec:
        """Make a spec of four short steps with an eval after two, unquantized, dropout on."""
        values: dict[str, Any] = {
            "name": "trial",
            **vars(self),
            "placement": Placement(language=2, vision=2),
            "rank": 4,
            "alpha": 8.0,
            "quantization": "none",
            "learning_rate": 2e-3,
            "vision_learning_rate": 4e-3,
            "steps": 4,
            "batch_rows": 3,
            "eval_every_steps": 2,
        }
        return TrialSpec(**(values | changes))


def few_rows(files: Files) -> Sources:
    """Cut the miniature's data set to a few rows of each kind, in the same directory, next to the pictures."""
    directory = files.train.parent
    kept: dict[str, list[str]] = {
        "train": files.train.read_text(encoding="utf-8").splitlines()[:TRAIN_ROWS],
        "validation": files.validation.read_text(encoding="utf-8").splitlines()[:VALIDATION_ROWS],
        "ood": [
            line
            for kind, count in OOD_ROWS.items()
            for line in [row for row in files.ood.read_text(encoding="utf-8").splitlines() if f'"{kind}"' in row][
                :count
            ]
        ],
    }
    paths = {}
    for name, lines in kept.items():
        paths[name] = directory / f"few-{name}.jsonl"
        paths[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
    base = Path(shutil.copytree(BASE_DIRECTORY, directory / "base"))  # which a rebuild may replace under a running test
    return hashed_sources(base, paths)


def hashed_sources(base: Path, paths: Mapping[str, Path]) -> Sources:
    """Return a base and data files with the digests that a launch plans with."""
    sees = family_of(base)[0].sees
    rows = {
        "train": read_rows(paths["train"]),
        "validation": read_validation(paths["validation"]),
        "ood": read_ood(paths["ood"], needed_kinds(sees)),
    }
    found = {
        name: Source(path=path, sha256=digest_of(path, (image for row in rows[name] for image in row.images)))
        for name, path in paths.items()
    }
    return Sources(base=Source(path=base, sha256=base_digest(base, FORMAT)), **found)


@contextmanager
def opened(
    engine: Any,
    spec: TrialSpec,
    directory: Path,
    baseline: Baseline | None,
    guards: Sequence[Guard] = (),
    constraint: Constraint = CONSTRAINT,
) -> Iterator[Any]:
    """Open a trial on its record; the base is always restored."""
    from trainables.training.trial import open_trial

    record = Record(directory)
    record.create(spec)
    trial = open_trial(engine, spec, record, baseline, guards, constraint)
    try:
        yield trial
    finally:
        trial.remove()


def never() -> bool:
    """Ask for no stop."""
    return False


def finish(trial: Any) -> Verdict:
    """Advance a trial to its verdict."""
    for _ in range(20):
        verdict = trial.advance(never)
        if verdict is not None:
            return verdict
    raise AssertionError("a trial must end within its steps, but it goes on")


def train_to(trial: Any, step: int) -> None:
    """Advance a trial until it stops, with a checkpoint, before step `step` + 1."""
    while trial.progress.step < step:
        trial.advance(lambda: trial.progress.step >= step)


def whole_run(engine: Any, spec: TrialSpec, directory: Path, baseline: Baseline, **more: Any) -> Record:
    """Run a trial to its end without interruption."""
    with opened(engine, spec, directory, baseline, **more) as trial:
        finish(trial)
    return Record(directory)


def outcome(record: Record) -> dict[str, Any]:
    """Return all that two equal trials share to the last bit: everything but seconds and memory."""
    step = record.checkpoint_steps()[0]
    return {
        "metrics": [
            (one.kind, one.step, {k: v for k, v in one.metrics.items() if k not in CLOCK_METRICS})
            for one in record.measurements()
        ],
        "verdict": record.verdict(),
        "checkpoint": step,
        "best": (found := record.best()) and found.step,
        "adapter": (record.checkpoint(step) / "adapter_model.safetensors").read_bytes(),
        "optimizer": tensors(record.checkpoint(step) / "optimizer.safetensors"),
        "samples": [record.samples(one.step) for one in record.evals()],
    }


def assert_same_outcome(first: Record, second: Record) -> None:
    """Compare two trials to the last bit; name the parts that differ.

    The values are not given to `assert`: pytest's own comparison of so much text takes hours where CI is set.
    """
    one, other = outcome(first), outcome(second)
    different = [part for part in one if one[part] != other[part]]
    assert different == [], f"{first.directory} and {second.directory} differ"


def tensors(path: Path) -> dict[str, list[Any]]:
    """Read a safetensors file as plain lists, comparable with ==."""
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118 a file is no dict


SpecMaker = Callable[..., TrialSpec]

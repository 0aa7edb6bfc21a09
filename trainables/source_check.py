"""Compares base, data and parent adapter of trials with the digests that they were planned with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from trainables.checkpoints.adapter import adapter_source
from trainables.data.duplicates import digest_of
from trainables.data.ood import needed_kinds, read_ood
from trainables.data.rows import read_rows, read_validation
from trainables.errors import UserError
from trainables.io.task_files import file_digest, task_digest
from trainables.model.base_files import base_digest
from trainables.model.families import family_of
from trainables.spec import Format, Source, TrialSpec

Role = Literal[
    "base", "training rows", "replay rows", "validation rows", "out-of-distribution rows", "adapter to continue",
    "task of a suite", "rows of a suite",
]  # fmt: skip
NEW_EXPERIMENT = "restore it, or start another experiment: leave out --resume and pass --experiment NAME"


class SourceChanged(UserError):
    """A file that a trial reads is no longer the one it was planned with."""


@dataclass(frozen=True)
class Reading:
    """What a trial reads: a source, its role, and what its digest depends on."""

    role: Role
    source: Source
    format: Format
    sees: bool = False
    optimizer: str = "fresh"


def check_sources(specs: Iterable[TrialSpec], fresh: Collection[Source] = ()) -> None:
    """Check that base, data and parent adapter of trials are unchanged; sources in `fresh` were hashed just now.

    Raises:
        SourceChanged: one has changed; names it.
        UserError: one can no longer be read.
    """
    for reading in dict.fromkeys(one for spec in specs for one in _readings(spec)):
        if reading.source not in fresh:
            _check(reading)


def check_base(spec: TrialSpec) -> None:
    """Check that the base of a trial is unchanged; weights are not read again while their files are as they were.

    Raises:
        SourceChanged: the base has changed.
        UserError: the base can no longer be read.
    """
    _check(Reading("base", spec.base, spec.format))


def _readings(spec: TrialSpec) -> Iterator[Reading]:
    reading = partial(Reading, format=spec.format)
    yield reading("base", spec.base)
    yield reading("training rows", spec.train)
    if spec.replay is not None:
        yield reading("replay rows", spec.replay)
    for validation in (spec.validation, *spec.earlier):
        yield reading("validation rows", validation)
    sees = (spec.base.path / "config.json").is_file() and family_of(spec.base.path)[0].sees
    yield reading("out-of-distribution rows", spec.ood, sees=sees)
    for probe in spec.probes:
        if probe.config is not None:
            yield reading("task of a suite", probe.config)
        if probe.rows is not None:
            yield reading("rows of a suite", probe.rows)
    if spec.init_from is not None:
        yield reading("adapter to continue", spec.init_from, optimizer=spec.optimizer)


def _check(reading: Reading) -> None:
    path, planned = reading.source.path, reading.source.sha256
    try:
        now = _digest(reading)
    except UserError as error:
        raise UserError(
            f"{path}: the {reading.role} must be unchanged since the trial was planned, but they cannot be read: "
            f"{error.message}",
            NEW_EXPERIMENT,
        ) from None
    if now != planned:
        raise SourceChanged(
            f"{path}: the {reading.role} must be unchanged since the trial was planned, sha256 {planned[:12]}, but "
            f"the sha256 is {now[:12]}",
            NEW_EXPERIMENT,
        )


def _digest(reading: Reading) -> str:
    path = reading.source.path
    match reading.role:
        case "base":
            return base_digest(path, reading.format)
        case "adapter to continue":
            return adapter_source(path, reading.optimizer).sha256
        case "task of a suite" | "rows of a suite":
            return _suite_digest(reading)
        case "out-of-distribution rows":
            images = (image for row in read_ood(path, needed_kinds(reading.sees)) for image in row.images)
        case role:
            rows = read_rows(path) if role in ("training rows", "replay rows") else read_validation(path)
            images = (image for row in rows for image in row.images)
    return digest_of(path, images)


def _suite_digest(reading: Reading) -> str:
    path = reading.source.path
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    return task_digest(path) if reading.role == "task of a suite" else file_digest(path)

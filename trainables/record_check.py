"""Finds damage in a record: files that its manifest names, and lines that its steps must have left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from trainables.io.files import FileDamaged, read_json
from trainables.io.manifest import MANIFEST, is_whole
from trainables.lease import read_lease
from trainables.measurement import Measurement, MetricKind
from trainables.record import ADAPTERS, BEST, KEPT_MANIFEST, RUN_AGAIN, Record
from trainables.record_labels import LABELLED, labels_of
from trainables.spec import TrialSpec
from trainables.verdict import VERDICT, Verdict

METRICS = "metrics.jsonl"


def check_record(record: Record) -> None:
    """Check that a record is whole: all files of an ended trial, and the readable part of another.

    What an unfinished trial has lost is trained again and is no damage.

    Raises:
        FileDamaged: names the file.
    """
    spec, verdict = record.spec(), record.verdict()
    labels_of(record)
    if verdict is None or verdict.kind not in LABELLED:
        read_lease(record.home)  # of a trial that may run again
    manifest = _read_manifest(record)
    if verdict is not None and manifest is not None:
        if not _is_same(record.directory, METRICS, manifest):
            record.measurements()  # says which line is damaged
        _check_files(record.directory, manifest)
        return
    measured = record.measurements()
    if verdict is None:
        if manifest is not None and _is_same(record.directory, METRICS, manifest):
            raise _damaged(record.directory / VERDICT, "is missing, although the trial has ended")
    elif verdict.kind in LABELLED:
        _check_without_manifest(record, spec, verdict, measured)


def missing_lines(spec: TrialSpec, step: int, measured: Sequence[Measurement]) -> list[tuple[MetricKind, int]]:
    """Return the lines of `metrics.jsonl` that a trial wrote before its checkpoint of `step` and that are lost."""
    found = {(one.kind, one.step) for one in measured}
    return [line for line in _lines_until(spec, step) if line not in found]


def _lines_until(spec: TrialSpec, step: int) -> Iterator[tuple[MetricKind, int]]:
    if spec.placement.is_baseline or (spec.init_from is not None and step > 0):
        yield "eval", 0  # a continued adapter is measured before it trains
    if not spec.placement.is_baseline:
        ended = [spec.last_step] * (step == spec.last_step)
        evals = [*range(spec.eval_every_steps, step + 1, spec.eval_every_steps), *ended]
        for eval_step in dict.fromkeys(evals):
            yield "train", eval_step
            yield "eval", eval_step


# -------------------------------------------------------------------- an ended trial
def _read_manifest(record: Record) -> Mapping[str, str] | None:
    path = record.directory / MANIFEST
    if not path.exists():
        return None
    kept = read_json(path)
    digests = kept.get("sha256") if isinstance(kept, dict) else None
    if not isinstance(digests, dict) or not {"spec.json", VERDICT} <= digests.keys():
        raise _damaged(path, "must list the files of the record, but it does not")
    return digests


def _check_files(directory: Path, manifest: Mapping[str, str]) -> None:
    for name in manifest:
        path = directory / name
        if not path.is_file():
            raise _damaged(path, "is missing, although the trial has ended")
        if not _is_same(directory, name, manifest):
            raise _damaged(path, f"must be as the trial left it, but it does not match {MANIFEST}")
    for name in filter(KEPT_MANIFEST.fullmatch, manifest):
        _check_whole((directory / name).parent)


def _check_whole(directory: Path) -> None:
    if not is_whole(directory):
        raise _damaged(directory, f"must have all files of its {MANIFEST} unchanged, but it has not")


def _is_same(directory: Path, name: str, manifest: Mapping[str, str]) -> bool:
    path = directory / name
    digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return digest == manifest.get(name)


def _check_without_manifest(
    record: Record, spec: TrialSpec, verdict: Verdict, measured: Sequence[Measurement]
) -> None:  # fmt: skip
    """Check the record of an earlier version, or of a process that was killed before it wrote the manifest."""
    lost = missing_lines(spec, spec.last_step if verdict.kind == "completed" else verdict.step, measured)
    if lost:
        kind, step = lost[0]
        raise _damaged(record.directory / METRICS, f"must hold the {kind} of step {step}, but it does not")
    for kept in (record.directory / BEST, *sorted((record.directory / ADAPTERS).glob("step-*"))):
        if kept.exists():
            _check_whole(kept)


def _damaged(path: Path, what: str) -> FileDamaged:
    return FileDamaged(f"{path} {what}", RUN_AGAIN)

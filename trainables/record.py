"""The record of a trial: one directory that resume, analysis and the MLflow mirror read.

Layout::

    spec.json                     the specification of the trial
    placement.json                the adapted modules by their full names, parameters per tower
    lineage.json                  the ancestors of a continued adapter, with their hashes and rates
    battery.json                  the results of the self-test, or the trial that ran it for this one
    metrics.jsonl                 one checksummed line per measurement; an incomplete last line is ignored
    samples/step-N.jsonl          prompts and answers of the probes, for people to read
    checkpoints/step-N/           adapter, optimizer, health monitor and progress; `manifest.json` is written last
    best/                         the best adapter that meets the constraint, in PEFT's format, with model card and
                                  `provenance.json` (`step`, `metrics`, labels, versions, digests); `manifest.json` last
    overridden.json               preflight checks that `--force` overrode, if any
    labels.json                   success criteria, and degraded results of the health checks
    verdict.json                  why the trial ended; written last
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from trainables.io.files import FileDamaged, read_json, replace_directory, write_json, write_text
from trainables.probes.metric import Proportion
from trainables.spec import Frozen, TrialSpec, canonical_json, read_spec

LABELLED = ("completed", "pruned")  # with any other verdict the measurements are not a valid result


MANIFEST = "manifest.json"
VerdictKind = Literal["completed", "pruned", "invalid", "infeasible", "failed"]
MetricKind = Literal["train", "eval"]


class Verdict(Frozen):
    """Why a trial ended: the kind, the guard or check that ended it (`cause`), and the reason with numbers.

    `value` and `limit` are the value and limit of the metric whose guard stopped the trial. They are None when no guard
    stopped it, and in records of an earlier version.
    """

    kind: VerdictKind
    step: int
    cause: str | None = None
    reason: str | None = None
    value: float | None = None
    limit: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}({self.cause})" if self.cause else self.kind


@dataclass(frozen=True)
class Measurement:
    """One line of `metrics.jsonl`: the metrics of one step, `train` (of the interval up to it) or `eval`.

    `counts` holds successes and rows of the metrics that are proportions; it is empty in records of an earlier version.
    """

    kind: MetricKind
    step: int
    metrics: Mapping[str, float]
    counts: Mapping[str, Proportion] = field(default_factory=dict)

    def line(self) -> str:
        """Return the measurement as one line of JSON with a checksum, without a line feed."""
        body: dict[str, Any] = {"kind": self.kind, "step": self.step, "metrics": dict(self.metrics)}
        if self.counts:
            body["counts"] = {name: [one.successes, one.rows] for name, one in self.counts.items()}
        return _checksummed(body)


def _measurement(body: Mapping[str, Any]) -> Measurement:
    counts = {name: Proportion(*pair) for name, pair in body.get("counts", {}).items()}
    return Measurement(body["kind"], body["step"], body["metrics"], counts)


@dataclass(frozen=True)
class Record:
    """Reads and writes the directory of one trial; after a crash every write is either complete or absent."""

    directory: Path

    @property
    def name(self) -> str:
        """Return the name of the directory, `<trial name>-<trial id>`."""
        return self.directory.name

    # ---------------------------------------------------------------- specification
    def create(self, spec: TrialSpec) -> None:
        """Create the directory and write the spec; an existing record keeps its spec (the id is the same)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "spec.json").exists():
            write_json(self.directory / "spec.json", spec.model_dump(mode="json"))

    def spec(self) -> TrialSpec:
        """Read back the spec."""
        return read_spec(read_json(self.directory / "spec.json"), where=str(self.directory / "spec.json"))

    # ---------------------------------------------------------------- measurements
    def append(self, measurement: Measurement) -> None:
        """Append one checksummed line and sync it to disk.

        Raises:
            ValueError: a metric is NaN or infinite; such a trial needs a verdict instead.
        """
        broken = [name for name, value in measurement.metrics.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(f"metrics must be finite, but {', '.join(broken)} at step {measurement.step} is not")
        self._drop_incomplete_line()
        with (self.directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(measurement.line() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def measurements(self) -> list[Measurement]:
        """Read every complete line; if a resumed trial measured a step again, the last line counts.

        Raises:
            FileDamaged: a line before the last one does not match its checksum.
        """
        latest: dict[tuple[str, int], Measurement] = {}
        for body in _read_checksummed(self.directory / "metrics.jsonl"):
            measurement = _measurement(body)
            latest[(measurement.kind, measurement.step)] = measurement
        return sorted(latest.values(), key=lambda one: (one.step, one.kind))

    def evals(self) -> list[Measurement]:
        """Return the eval measurements in order of step."""
        return [one for one in self.measurements() if one.kind == "eval"]

    def forget_after(self, step: int) -> None:
        """Delete measurements after `step`, where the trial resumes and will measure again."""
        keep = [one for one in self.measurements() if one.step <= step]
        write_text(self.directory / "metrics.jsonl", "".join(one.line() + "\n" for one in keep))

    def write_samples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write the prompts and answers of one eval."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(self.directory / "samples" / f"step-{step}.jsonl", "".join(lines))

    def samples(self, step: int) -> list[dict[str, Any]]:
        """Read the prompts and answers of one eval."""
        text = (self.directory / "samples" / f"step-{step}.jsonl").read_text(encoding="utf-8")
        # not splitlines(): it also splits at U+0085 and U+2028, which JSON does not escape and a model may generate
        return [json.loads(line) for line in text.split("\n") if line]

    def _drop_incomplete_line(self) -> None:
        path = self.directory / "metrics.jsonl"
        if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            write_text(path, data[: data.rfind(b"\n") + 1].decode())

    # ---------------------------------------------------------------- checkpoints
    @contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """Yield a temporary directory that then becomes `name` (`checkpoints/step-30`, `best`) with its manifest.

        The manifest is written last and the directory is then renamed, so an existing directory is complete.
        """
        target = self.directory / name
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        write_json(temporary / MANIFEST, {"sha256": _digests(temporary)})
        replace_directory(temporary, target)

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of complete, unmodified checkpoints, newest first; damaged ones are skipped."""
        names = (path.name.removeprefix("step-") for path in (self.directory / "checkpoints").glob("step-*"))
        steps = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
        return [step for step in steps if is_whole(self.checkpoint(step))]

    def checkpoint(self, step: int) -> Path:
        """Return the directory of the checkpoint of `step`."""
        return self.directory / "checkpoints" / f"step-{step}"

    def keep_checkpoints(self, count: int) -> None:
        """Delete all but the newest `count` complete checkpoints."""
        for step in self.checkpoint_steps()[count:]:
            shutil.rmtree(self.checkpoint(step))

    def best(self) -> Measurement | None:
        """Return the eval of the best checkpoint that meets the constraint, or None if none does."""
        if not is_whole(self.directory / "best"):
            return None
        provenance = read_json(self.directory / "best" / "provenance.json")
        return Measurement("eval", provenance["step"], provenance["metrics"])

    # ---------------------------------------------------------------- verdict
    def close(self, verdict: Verdict) -> None:
        """Write the verdict, which is the last file of a record."""
        write_json(self.directory / "verdict.json", verdict.model_dump(mode="json"))

    def verdict(self) -> Verdict | None:
        """Return the verdict, or None if the trial has not ended."""
        path = self.directory / "verdict.json"
        return Verdict.model_validate(read_json(path)) if path.exists() else None

    def reopen(self) -> None:
        """Delete a `failed` verdict, so that the trial can run again."""
        (self.directory / "verdict.json").unlink(missing_ok=True)


def records_under(directory: Path) -> list[Record]:
    """Return the records in `directory`, sorted by name."""
    return [Record(path.parent) for path in sorted(directory.glob("*/spec.json"))]


def is_whole(directory: Path) -> bool:
    """True when `directory` has a manifest that lists exactly its files, with their checksums."""
    try:
        expected = read_json(directory / MANIFEST)["sha256"]
        return expected == _digests(directory)
    except (OSError, FileDamaged, KeyError, TypeError):
        return False


def _checksummed(body: dict[str, Any]) -> str:
    return canonical_json({**body, "crc32": zlib.crc32(canonical_json(body).encode())})


def _read_checksummed(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        body = _verified(line)
        if body is None:
            raise FileDamaged(
                f"{path}:{number}: every line must match its checksum, but this one does not",
                "the file was changed after it was written; delete the trial's directory to run it again",
            )
        yield body


def _verified(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
        checksum = body.pop("crc32")
        actual = zlib.crc32(canonical_json(body).encode())
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return body if checksum == actual else None


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest() for path in files}


def labels_of(record: Record) -> dict[str, str]:
    """Return the labels of a result besides its verdict, keyed as its tags in MLflow.

    `criteria` is `none`, `minimum` or `optimal`: the highest level whose criteria are met (`optimal` includes
    `minimum`); it is absent if the trial has no result. `degraded` and `overridden` are checks separated by commas,
    absent if there are none.
    """
    verdict, written = record.verdict(), record.directory / "labels.json"
    found: dict[str, str] = {}
    if (forced := record.directory / "overridden.json").exists():
        found["overridden"] = _checks(read_json(forced))
    if verdict is not None and verdict.kind in LABELLED and written.exists():
        labels = read_json(written)
        most = "optimal" if labels["optimal"]["met"] else "minimum"
        found["criteria"] = most if labels["minimum"]["met"] else "none"
        if labels["degraded"]:
            found["degraded"] = _checks(labels["degraded"])
    return found


def _checks(findings: Iterable[Mapping[str, Any]]) -> str:
    return ",".join(dict.fromkeys(one["check"] for one in findings))

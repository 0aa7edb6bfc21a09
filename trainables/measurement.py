"""One measurement of a trial, and the files of checksummed lines that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from trainables.io.checksums import verified, with_checksum
from trainables.io.files import read_checksummed
from trainables.probes.metric import Declared, Proportion, RowResults, Scores

MetricKind = Literal["train", "eval"]
FULL_STRENGTH, AVERAGE = "1", "average"
KEPT_LINES = 512  # in the memory of a process: a line with results by row takes up to 100 kB there


@dataclass(frozen=True)
class GroupFall:
    """A kind of picture on which a metric fell: successes on its rows, and those of the baseline on the same rows."""

    metric: str
    group: str
    successes: int
    rows: int
    baseline_successes: int

    def __str__(self) -> str:
        return f"{self.metric} on `{self.group}`: {self.successes} of {self.rows}, baseline {self.baseline_successes}"


@dataclass(frozen=True)
class Measurement:
    """One line of `metrics.jsonl`: the metrics of one step, `train` (of the interval up to it) or `eval`.

    `counts` holds successes and rows of the metrics that are proportions, `rows` the results by row of those that are
    means over rows; both are empty in records of an earlier version. `scale` is the strength of the adapter that was
    measured: `1`, a smaller number for a scaled copy, or `average` for the average of the last evals. `reserve` holds
    the results on the rows that guards asked for besides, in the order asked, which are in no metric, `decided` what
    each guard's test found, and `falls` the kinds of picture on which the trial lost its answers. `declared` describes
    the metrics that suites define.
    """

    kind: MetricKind
    step: int
    metrics: Mapping[str, float]
    counts: Mapping[str, Proportion] = field(default_factory=dict)
    rows: Mapping[str, RowResults] = field(default_factory=dict)
    scale: str = FULL_STRENGTH
    reserve: Mapping[str, RowResults] = field(default_factory=dict)
    decided: Mapping[str, str] = field(default_factory=dict)
    falls: tuple[GroupFall, ...] = ()
    declared: Mapping[str, Declared] = field(default_factory=dict)

    def line(self) -> str:
        """Return the measurement as one line of JSON with a checksum, without a line feed."""
        body: dict[str, Any] = {"kind": self.kind, "step": self.step, "metrics": dict(self.metrics)}
        if self.counts:
            body["counts"] = {name: [one.successes, one.rows] for name, one in self.counts.items()}
        if self.rows:
            body["rows"] = {name: asdict(one) for name, one in self.rows.items()}
        if self.scale != FULL_STRENGTH:
            body["scale"] = self.scale
        if self.reserve:
            body["reserve"] = {name: asdict(one) for name, one in self.reserve.items()}
            # a line has its keys sorted, but a sequential test reads rows in the order in which they were asked
            body["asked"] = list(dict.fromkeys(row for one in self.reserve.values() for row in one.values))
        if self.decided:
            body["decided"] = dict(self.decided)
        if self.falls:
            body["falls"] = [asdict(one) for one in self.falls]
        if self.declared:
            body["declared"] = {name: asdict(one) for name, one in self.declared.items()}
        return with_checksum(body)


def eval_measurement(step: int, scores: Scores) -> Measurement:
    """Return the scores of one eval as a measurement."""
    return Measurement("eval", step, scores.metrics, scores.counts, scores.rows, declared=scores.declared)


def _measurement(body: Mapping[str, Any]) -> Measurement:
    counts = {name: Proportion(*pair) for name, pair in body.get("counts", {}).items()}
    rows, reserve = (
        {name: RowResults(**one) for name, one in body.get(key, {}).items()} for key in ("rows", "reserve")
    )
    reserve = {name: _in_order(one, body.get("asked", ())) for name, one in reserve.items()}
    falls = tuple(GroupFall(**one) for one in body.get("falls", ()))
    declared = {name: Declared(**one) for name, one in body.get("declared", {}).items()}
    return Measurement(
        body["kind"], body["step"], body["metrics"], counts, rows, body.get("scale", FULL_STRENGTH), reserve,
        body.get("decided", {}), falls, declared,
    )  # fmt: skip


def _in_order(results: RowResults, asked: Sequence[str]) -> RowResults:
    first = {row: results.values[row] for row in asked if row in results.values}
    return RowResults({**first, **results.values}, results.weights)


def read_measurements(path: Path, hint: str) -> list[Measurement]:
    """Read a file of measurements, such as `metrics.jsonl`; empty if it does not exist.

    Raises:
        FileDamaged: a complete line does not match its checksum; `hint` says what to do.
    """
    return list(read_checksummed(path, hint, _of_line))


def newest_eval(path: Path, hint: str) -> Measurement | None:
    """Return the last eval of a trial's measurements without reading those before it; None if there is none.

    Raises:
        FileDamaged: as for `read_measurements`, if the line or one after it is damaged.
    """
    for line in reversed(path.read_bytes().split(b"\n")[:-1] if path.exists() else []):
        found = _of_line(line)
        if found is None:
            read_measurements(path, hint)  # names the line
        elif found.kind == "eval":
            return found
    return None


@lru_cache(maxsize=KEPT_LINES)
def _of_line(line: bytes) -> Measurement | None:
    """Return the measurement of a line, None if it does not match its checksum.

    What shows and copies running trials reads their files again after each eval, which only appends to them.
    """
    body = verified(line)
    return None if body is None else _measurement(body)

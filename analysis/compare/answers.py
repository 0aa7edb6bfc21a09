"""The answers of both sides and of the baseline to the rows on which the sides differ, read from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.candidates import FULL_STRENGTH, Candidate
from analysis.compare.selection import Side
from trainables.errors import UserError
from trainables.record import Record

if TYPE_CHECKING:
    from analysis.candidates import SeedEval
    from trainables.data.ood import OodRow
    from trainables.data.rows import Row
    from trainables.spec import TrialSpec


@dataclass(frozen=True)
class AskedRow:
    """A row of an eval: its kind, the group it belongs to ("" without one) and its pictures."""

    row_id: str
    kind: str
    group: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class AnsweredRow:
    """One row on which A and B differ, with all answers; an answer that no record holds is None.

    `metrics` are those by which the row's results differ.
    """

    row: AskedRow
    metrics: tuple[str, ...]
    prompt: str
    expected: str
    baseline: str | None
    a: str | None
    b: str | None


@dataclass(frozen=True)
class SideBySide:
    """The answers of one seed of A and one of B; `missing` says which record cannot be read, and then rows are few."""

    seed_a: str
    seed_b: str
    rows: tuple[AnsweredRow, ...]
    missing: str = ""


def spec_of(one: SeedEval) -> TrialSpec | None:
    """Return the specification of a trial, or None where its record is not on this machine."""
    record = record_of(one)
    return record.spec() if record else None


def record_of(one: SeedEval) -> Record | None:
    """Return the record of a trial, or None where it is not on this machine."""
    directory = Path(one.trial.record) if one.trial.record else None
    return Record(directory) if directory and (directory / "spec.json").is_file() else None


def files_of(side: Side) -> dict[str, str]:
    """Return the digests of the files whose rows a side answered; empty where its record is not on this machine."""
    spec = spec_of(side.candidate.evals[0])
    return {"validation": spec.validation.sha256, "ood": spec.ood.sha256} if spec else {}


def asked_rows(side: Side) -> dict[str, AskedRow]:
    """Return the rows that a side answered by their ids; empty where the record or its data are not on this machine."""
    from trainables.data.ood import read_ood
    from trainables.data.rows import read_validation

    spec = spec_of(side.candidate.evals[0])
    if spec is None:
        return {}
    try:
        validation, ood = read_validation(spec.validation.path), read_ood(spec.ood.path, ())
    except UserError:  # the files were moved or changed since; their digests were compared before
        return {}
    return {one.row_id: one for one in (*map(_validation_row, validation), *map(_ood_row, ood))}


def _validation_row(row: Row) -> AskedRow:
    return AskedRow(row.row_id, "validation", "", row.images)


def _ood_row(row: OodRow) -> AskedRow:
    return AskedRow(row.row_id, row.kind, row.group or "", row.images)


def groups_in(rows: Mapping[str, AskedRow]) -> dict[str, str]:
    """Return the group of each row that has one."""
    return {one.row_id: one.group for one in rows.values() if one.group}


def side_by_side(a: Side, b: Side, metrics: Sequence[str], asked: Mapping[str, AskedRow], most: int) -> SideBySide:
    """Return up to `most` rows on which the first common seed of both sides differs by any of `metrics`."""
    of_a, of_b = _same_seed(a, b)
    differ: dict[str, list[str]] = {}
    for name in metrics:
        ours, theirs = of_a.rows[name].values, of_b.rows[name].values
        for row in (row for row in ours if row in theirs and ours[row] != theirs[row]):
            differ.setdefault(row, []).append(name)
    texts = [_answers(one) for one in (of_a, of_b)]
    reference = _answers(a.baseline.evals[0]) if a.baseline else {}
    if not all(texts):
        return SideBySide(of_a.seed, of_b.seed, (), _missing((a if not texts[0] else b).candidate))
    rows = []
    for row_id, by in differ.items():
        sample = texts[0].get(row_id)
        if sample is None:
            continue
        row = asked.get(row_id, AskedRow(row_id, sample["kind"], "", ()))
        answers = [found.get(row_id, {}).get("answer") for found in (reference, *texts)]
        rows.append(AnsweredRow(row, tuple(by), sample["prompt"], sample["expected"], *answers))
    return SideBySide(of_a.seed, of_b.seed, tuple(rows[:most]))


def _missing(candidate: Candidate) -> str:
    if candidate.is_derived:
        return f"{candidate.name} is a derived copy, whose evals keep their results by row and no answers"
    return f"the record of {candidate.name} or its samples are not on this machine"


def _same_seed(a: Side, b: Side) -> tuple[SeedEval, SeedEval]:
    of_b = {one.seed: one for one in b.candidate.evals}
    for one in a.candidate.evals:
        if one.seed in of_b:
            return one, of_b[one.seed]
    return a.candidate.evals[0], b.candidate.evals[0]


def _answers(one: SeedEval) -> dict[str, dict[str, str]]:
    """Return the samples of an eval by row id; a scaled copy has none under its step."""
    record = record_of(one)
    if record is None or one.measured.scale != FULL_STRENGTH:
        return {}
    try:
        samples = record.samples(one.measured.step)
    except FileNotFoundError:
        return {}
    return {sample["row"]: sample for sample in samples if "row" in sample}

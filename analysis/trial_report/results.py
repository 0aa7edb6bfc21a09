"""Reads the results of one trial from its record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.data_files import data_files
from trainables.errors import UserError, nearest
from trainables.io.files import read_json
from trainables.record import Measurement, Record, records_under
from trainables.spec import TrialSpec
from trainables.typed import typed
from trainables.verdict import Verdict


@dataclass(frozen=True)
class TrialResults:
    """One trial that ended, with its baseline; `best` is None if no eval was admissible.

    `provenance` is recorded with an adapter, and empty if none was kept; `other_provenance` is then that of another
    trial of the experiment, empty if none has one. `rows` are the row counts of the data files, as far as known.
    """

    experiment: str
    record: Record
    spec: TrialSpec
    verdict: Verdict
    measured: tuple[Measurement, ...]
    baseline: Mapping[str, float]
    best: Measurement | None
    provenance: Mapping[str, Any]
    rows: Mapping[str, int] = field(default_factory=dict)
    other_provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def evals(self) -> list[Measurement]:
        """Return the evals in order of step."""
        return [one for one in self.measured if one.kind == "eval"]

    @property
    def stem(self) -> str:
        """Return the stem of this trial's file names."""
        return re.sub(r"[^\w.-]+", "-", f"{self.experiment}_{self.spec.name}")


def read_results(storage: Path, experiment: str, trial: str | None) -> list[TrialResults]:
    """Read the trials of an experiment that trained and ended, or the one that `trial` names.

    Raises:
        UserError: there is no such experiment or trial, or a part of its record is missing; names the part.
    """
    records = records_under(storage / experiment / "trials")
    if not records:
        known = [path.parent.name for path in storage.glob("*/trials")]
        raise UserError(
            f"--experiment must have records, but {storage / experiment / 'trials'} has none",
            nearest(experiment, known) if known else "pass --storage with the directory that the sweep wrote to",
        )
    trained = {record: spec for record in records if not (spec := record.spec()).placement.is_baseline}
    if trial is None:
        chosen = [record for record in trained if _has_result(record)]
        if not chosen:
            raise UserError(f"a trial must have ended with a result, but none of {experiment} has",
                            f"{typed('status', experiment, '--storage', str(storage))} says what they do")  # fmt: skip
    else:
        chosen = [record for record, spec in trained.items() if trial in (spec.name, spec.trial_id, record.name)]
        if not chosen:
            raise UserError(f"--trial must be a trained trial of {experiment}, but got `{trial}`",
                            nearest(trial, {spec.name for spec in trained.values()}))  # fmt: skip
        if len(chosen) > 1:
            raise UserError(f"--trial must name one trial, but `{trial}` names {', '.join(r.name for r in chosen)}",
                            "name it with its id")  # fmt: skip
    baselines = {spec.trial_id: record for record in records if (spec := record.spec()).placement.is_baseline}
    return [_read(experiment, record, trained[record], baselines) for record in chosen]


def runs_of(experiment: str, tracking_uri: str) -> dict[str, str]:
    """Return the MLflow run of each trial id; empty if the store has no such experiment or does not answer."""
    from analysis.mlflow_runs import read_experiment

    try:
        return {trial.trial_id: trial.run_id for trial in read_experiment(experiment, tracking_uri).trials}
    except UserError:
        return {}


# -------------------------------------------------------------------- what is read
def _has_result(record: Record) -> bool:
    verdict = record.verdict()
    return verdict is not None and verdict.kind in ("completed", "pruned")


def _read(experiment: str, record: Record, spec: TrialSpec, baselines: Mapping[str, Record]) -> TrialResults:
    verdict, measured = record.verdict(), tuple(record.measurements())
    if verdict is None:
        raise UserError(f"{record.directory}: a trial must have ended, but verdict.json is not there", "let it finish")
    if not any(one.kind == "eval" for one in measured):
        raise UserError(f"{record.directory}: a trial must have an eval, but metrics.jsonl holds none: {verdict}")
    base = baselines.get(spec.baseline().trial_id)
    if base is None or not base.evals():
        raise UserError(
            f"{record.directory}: its baseline must have been measured, but {spec.baseline().name} has no record here",
            "run the study with its arm A0",
        )
    best = record.best()
    kept = {one.directory: _provenance(one) for one in records_under(record.home.parent)}
    found = kept.pop(record.directory)
    own = found if best else {}
    others = [one for one in kept.values() if one]
    other = others[0] if others and not own else {}
    rows = _row_counts(record, spec, [own, *others])
    return TrialResults(experiment, record, spec, verdict, measured, base.evals()[-1].metrics, best, own, rows, other)


def _provenance(record: Record) -> Mapping[str, Any]:
    path = record.directory / "best" / "provenance.json"
    return read_json(path) if path.is_file() else {}


def _row_counts(record: Record, spec: TrialSpec, provenances: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the row counts of the data files, from provenance or pre-flight files with the same sha256."""
    study, preflight = (
        read_json(path) if (path := record.home.parent.parent / name).is_file() else {}
        for name in ("study.json", "preflight.json")
    )
    counted = {}
    for name, source in data_files(spec).items():
        counts = [one.get("data", {}).get(name, {}) for one in provenances]
        # the first count is from the trial's own adapter, so it needs no comparison of digests
        known = [one for place, one in enumerate(counts) if place == 0 or one.get("sha256") == source.sha256]
        if study.get(name) == source.sha256:
            known.append(preflight.get("data", {}).get(name, {}))
        counted[name] = next((one["rows"] for one in known if one.get("rows") is not None), None)
    return {name: rows for name, rows in counted.items() if rows is not None}

"""Reads what the report shows beside the frontier: measurements, records, samples, cost and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.frontier import FrontierInfo
from analysis.mlflow_runs import TrialRun
from trainables.io.files import read_json
from trainables.record import BEST, Measurement, Record
from trainables.spec import TrialSpec
from trainables.typed import typed

SOURCES = {"base": "model", "train": "training rows", "validation": "validation rows", "ood": "other rows"}
COSTS = ("train_seconds", "eval_seconds", "peak_memory_mb", "adapter_parameters")


@dataclass(frozen=True)
class Provenance:
    """What made the results: model and data with digests, versions, hardware and commit; empty where not known."""

    sources: tuple[tuple[str, str, str], ...]
    versions: tuple[tuple[str, str], ...]
    hardware: str
    commit: str


@dataclass(frozen=True)
class Cost:
    """What one arm took, summed over its seeds; memory is the largest. None where it was not logged."""

    arm: str
    seeds: int
    train_seconds: float | None
    eval_seconds: float | None
    peak_memory_mb: float | None
    parameters: float | None


@dataclass(frozen=True)
class ArmCommand:
    """The command that runs one trial of an arm again, from its record."""

    arm: str
    command: str


def records_of(info: FrontierInfo) -> dict[str, Record]:
    """Return the records of trials that are on this machine, by run id."""
    trials = [one.trial for result in info.results for one in result.placement.seed_runs]
    return {one.run_id: Record(Path(one.record)) for one in trials if one.record and Path(one.record).is_dir()}


def costs_of(info: FrontierInfo) -> list[Cost]:
    """Return the cost of every arm, the dearest first."""
    costs = []
    for result in info.results:
        trials = [one.trial for one in result.placement.seed_runs]
        train, evals, memory, parameters = ([one.last[name] for one in trials if name in one.last] for name in COSTS)
        costs.append(
            Cost(
                arm=result.placement.label,
                seeds=len(trials),
                train_seconds=sum(train) if train else None,
                eval_seconds=sum(evals) if evals else None,
                peak_memory_mb=max(memory, default=None),
                parameters=max(parameters, default=None),
            )
        )
    return sorted(costs, key=lambda one: -(one.train_seconds or 0.0))


def provenance_of(records: Sequence[Record]) -> Provenance:
    """Return what made the results, from the records on this machine."""
    if not records:
        return Provenance((), (), "", "")
    spec = records[0].spec()
    sources = [(label, getattr(spec, name).path.name, getattr(spec, name).sha256) for name, label in SOURCES.items()]
    replays = {one.sha256: one for record in records if (one := record.spec().replay)}
    sources += [("replay rows", one.path.name, one.sha256) for one in replays.values()]
    written = [one.directory / BEST / "provenance.json" for one in records]
    kept: Mapping[str, Any] = next((read_json(path) for path in written if path.is_file()), {})
    source = kept.get("source", {})
    commit = f"{source.get('commit') or 'not known'}{' with uncommitted changes' if source.get('dirty') else ''}"
    return Provenance(
        tuple(sources), tuple(kept.get("versions", {}).items()), kept.get("hardware", "not known"), commit
    )


def commands_of(info: FrontierInfo, records: Mapping[str, Record]) -> list[ArmCommand]:
    """Return a command for every arm with a record here: it runs the first seed again, with each of its settings."""
    found = []
    for result in sorted(info.results, key=lambda one: one.placement.label):
        known = [records[one.trial.run_id] for one in result.placement.seed_runs if one.trial.run_id in records]
        if known:
            spec = str(known[0].directory / "spec.json")
            found.append(ArmCommand(result.placement.label, typed("trial", spec)))
    return found


def samples_at(record: Record, step: int) -> list[dict[str, Any]]:
    """Return the prompts and answers of an eval; empty if the record does not hold them."""
    return record.samples(step) if (record.directory / "samples" / f"step-{step}.jsonl").is_file() else []


def baseline_record(info: FrontierInfo, records: Mapping[str, Record], spec: TrialSpec) -> Record | None:
    """Return the record of a trial's baseline, None if it is not on this machine."""
    wanted = spec.baseline().trial_id
    runs: list[TrialRun] = [one.trial for result in info.results for one in result.placement.seed_runs]
    return next((records[one.run_id] for one in runs if one.trial_id == wanted and one.run_id in records), None)


def last_eval(record: Record | None) -> Measurement | None:
    """Return the last eval of a record, None if there is none."""
    evals = record.evals() if record else []
    return evals[-1] if evals else None

"""The directory of one experiment: configuration and format, and its trials' records."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

from sweeps.execution.lease_holder import Holder, check_free, holder_of, holding, stop_file
from sweeps.execution.storage import AdapterBytes, KeptAdapters, check_storage, kept_adapters
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.preflight import Preflight
from sweeps.planning.resources import TrialResources
from sweeps.planning.sources import Begun
from sweeps.planning.space import merged
from sweeps.study import Study, rules_of
from trainables.errors import UserError, quoted
from trainables.io.files import FileDamaged, read_json, write_json
from trainables.memory_file import FORECAST_FILE
from trainables.model.base_files import file_digests
from trainables.record import NAME_WITH_ID, PILOTS, Keep, Record, records_under
from trainables.spec import FORMAT, Format, Source, TrialSpec, default_settings

# setting of an arm -> the key of `study.json` that it determines
DETERMINES = {"epochs": "steps", "batch_rows": "effective_rows", "accumulation_steps": "effective_rows"}
BASE_FILES, TRIALS, KEEP = "base.json", "trials.json", "keep.json"
RESTORE = "restore it from a copy, or begin another experiment with --experiment NAME"


@dataclass(frozen=True)
class Experiment:
    """`<storage>/<name>/`: `study.json`, `lease.json`, `trials/<trial>-<id>/`, and `pilots/` of arms that try rates.

    `launch` is the number of the launch that holds it; 0 if none does.
    """

    directory: Path
    launch: int = 0

    @property
    def name(self) -> str:
        """Return the name of the experiment, which is also its name in MLflow."""
        return self.directory.name

    @property
    def stop_file(self) -> Path:
        """Return the stop file of this launch; when it exists, its trials checkpoint and stop."""
        return stop_file(self.directory, self.launch)

    @property
    def format(self) -> Format:
        """Return the format of its specs; a new experiment has the current format.

        Raises:
            UserError: as for `begun`.
        """
        return self.begun.format

    @property
    def begun(self) -> Begun:
        """Return what the experiment keeps from its first launch; the current values if it is new.

        Raises:
            FileDamaged: `study.json` is damaged, or is missing although there are trials.
            UserError: a later version of this package created the experiment.
        """
        path = self.directory / "study.json"
        if not path.exists() and not self.records():
            return Begun(FORMAT)
        kept = read_configuration(path)
        try:
            shown = date.fromisoformat(kept["template_date"]) if kept.get("template_date") else None
        except (TypeError, ValueError):
            raise FileDamaged(f"{path}: `template_date` must be a date, but got {quoted(kept['template_date'])}",
                              RESTORE) from None  # fmt: skip
        return Begun(kept["format"], shown)

    def records(self) -> list[Record]:
        """Return the records of all trials, by name."""
        return records_under(self.directory / "trials")

    def pilots(self) -> list[Record]:
        """Return the records of the pilots, which try rates, by name."""
        return records_under(self.directory / PILOTS)

    def record_of(self, spec: TrialSpec) -> Record:
        """Return the record of a trial, found by its id, because the trial may exist under another name."""
        return self.records_of([spec])[0]

    def records_of(self, specs: Sequence[TrialSpec]) -> list[Record]:
        """Return the records of trials, as `record_of` does; the directory is read once for all of them."""
        trials = self.directory / "trials"
        begun: dict[str, str] = {}
        for name in sorted(os.listdir(trials) if trials.is_dir() else []):
            if matched := NAME_WITH_ID.fullmatch(name):
                begun.setdefault(matched[1], name)
        names = (begun.get(spec.trial_id, f"{spec.name}-{spec.trial_id}") for spec in specs)
        return [Record(trials / name) for name in names]

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Write the configuration of a new experiment, or compare it with that of an existing one.

        Raises:
            UserError: they differ; names every setting that differs.
        """
        path = self.directory / "study.json"
        if path.exists():
            self.check_configuration(configuration)
        else:
            write_json(path, configuration)

    def check_configuration(self, configuration: Mapping[str, Any]) -> None:
        """Compare a configuration with that of the experiment, if it was begun.

        Raises:
            UserError: they differ; names every setting that differs.
        """
        path = self.directory / "study.json"
        if not path.exists():
            return
        configuration, begun = json.loads(json.dumps(configuration)), read_configuration(path)
        differing = [key for key in {**begun, **configuration} if begun.get(key) != configuration.get(key)]
        if differing:
            changes = "; ".join(f"{key}: {begun.get(key)} -> {configuration.get(key)}" for key in sorted(differing))
            raise UserError(
                f"experiment `{self.name}` was begun with another configuration: {changes}",
                f"use the same settings, or begin a new one with --experiment {self.name}-2",
            )

    def begin(self, specs: Sequence[TrialSpec], overridden: Sequence[PreflightFinding] = ()) -> list[Record]:
        """Create the records of trials; each keeps the refusals that --force overrode for it.

        The list of all trials is written first: a launch that is killed here leaves none that a resumed one forgets.
        """
        records = self.records_of(specs)
        trained = {record.name for record, spec in zip(records, specs, strict=True) if not spec.placement.is_baseline}
        if not trained <= (known := self._begun_trials()):
            write_json(self.directory / TRIALS, sorted(known | trained))
        for record, spec in zip(records, specs, strict=True):
            record.create(spec)
            concerning = [asdict(one) for one in overridden if one.concerns(spec.name)]
            if concerning and record.verdict() is None:
                write_json(record.directory / "overridden.json", concerning)
        return records

    def lost_trials(self) -> list[str]:
        """Return the names of begun trials whose directory is gone; baselines are not among them."""
        return sorted(self._begun_trials() - {record.name for record in self.records()})

    def _begun_trials(self) -> set[str]:
        path = self.directory / TRIALS
        return set(read_json(path)) if path.exists() else set()

    def keep_base_files(self, base: Source) -> None:
        """Write the digest of each file of the base, by which a resumed launch names the changed one."""
        values = {"path": str(base.path), "sha256": base.sha256, "files": file_digests(base.path)}
        write_json(self.directory / BASE_FILES, values)

    @property
    def keep(self) -> Keep | None:
        """Return which adapters a launch last asked the records to keep; None if none did.

        Raises:
            FileDamaged: the file is not as it was written.
        """
        path = self.directory / KEEP
        kept = read_json(path) if path.exists() else {"keep": None}
        if not isinstance(kept, dict) or kept.get("keep") not in (None, *get_args(Keep)):
            raise FileDamaged(f"{path}: `keep` must be all or best, but got {quoted(kept)}", RESTORE)
        return kept["keep"]

    def kept(self, asked: Keep | None, size: AdapterBytes) -> KeptAdapters:
        """Decide which adapters the records keep, by what was asked and the space that is free now.

        Raises:
            UserError: the storage cannot take the records.
        """
        return kept_adapters(asked, self.keep, size, check_storage(self.directory.parent, create=False))

    def remember_keep(self, keep: Keep) -> None:
        """Write which adapters the records keep as asked, for launches that resume the experiment."""
        write_json(self.directory / KEEP, {"keep": keep})

    def keep_preflight(self, found: Preflight, overridden: Sequence[PreflightFinding]) -> None:
        """Write the findings of preflight, and whether --force overrode a refusal."""
        write_json(self.directory / "preflight.json", {**found.as_json(), "overridden": bool(overridden)})

    def keep_forecast(self, found: Sequence[TrialResources]) -> None:
        """Write what each trial is forecast to take, beside which a report puts what it took; others stay."""
        path, new = self.directory / FORECAST_FILE, {one.trial_id: one.as_json() for one in found}
        earlier = read_json(path) if path.exists() else []
        write_json(path, [*(one for one in earlier if one["trial_id"] not in new), *new.values()])

    def check(self, configuration: Mapping[str, Any], needed: AdapterBytes | None = None, steal: bool = False) -> None:
        """Refuse what a launch with this configuration would refuse; writes nothing.

        Raises:
            UserError: the storage cannot take the records, or the experiment has another configuration.
            AlreadyRunning: another launch holds it, and it is not to be taken over.
        """
        check_storage(self.directory.parent, needed, create=False)
        check_free(self.directory, steal)
        self.check_configuration(configuration)

    def holder(self) -> Holder | None:
        """Return the launch that holds the experiment, which may be lost; None if none does.

        Raises:
            FileDamaged: the lease is damaged.
        """
        return holder_of(self.directory)

    @contextmanager
    def held(self, steal: bool | None = None) -> Iterator[Experiment]:
        """Hold the experiment for one launch; yields it with the number of that launch.

        With `steal` it is taken over from a launch that runs; None if the command has no such option.

        Raises:
            AlreadyRunning: another launch holds it, or took it over during the block.
        """
        with holding(self.directory, steal) as launch:
            yield replace(self, launch=launch)


def configuration_of(study: Study, specs: list[TrialSpec]) -> dict[str, Any]:
    """Return the settings that all trials of an experiment must share to be comparable."""
    spec = next((one for one in specs if not one.placement.is_baseline), specs[0])
    own = {DETERMINES.get(key, key) for arm in study.arms for key in (*arm.settings, *arm.miniature)} | {*study.varies}
    shared = {
        "format": spec.format,
        "base": spec.base.sha256,
        "train": spec.train.sha256,
        "validation": spec.validation.sha256,
        "ood": spec.ood.sha256,
        "steps": spec.steps,
        "effective_rows": spec.effective_rows,
        "eval_every_steps": spec.eval_every_steps,
        "data_seed": spec.data_seed,
        **rules_of(study),
        **date_of(spec),
    }
    return {key: value for key, value in shared.items() if key not in own}


def date_of(spec: TrialSpec) -> dict[str, str]:
    """Return the entry of the date that chat templates show; empty if they show none."""
    return {"template_date": str(spec.template_date)} if spec.template_date else {}


def kept_base_files(experiment: Experiment) -> tuple[Path | None, dict[str, str]]:
    """Return the base of the first launch and the digest of each of its files; None if they were not kept."""
    path = experiment.directory / BASE_FILES
    kept = read_json(path) if path.exists() else None
    if not isinstance(kept, dict) or not isinstance(kept.get("files"), dict):
        return None, {}
    return Path(str(kept.get("path"))), kept["files"]


def read_configuration(path: Path) -> dict[str, Any]:
    """Read `study.json` and convert format 1 to the current content.

    A file without `format` has format 1. In format 1, `fixed` of a search has no settings with default values.

    Raises:
        FileDamaged: the file is missing, or is no configuration.
        UserError: a later version of this package wrote the file.
    """
    if not path.exists():
        raise FileDamaged(f"{path}: an experiment with trials must have its configuration, but it is missing", RESTORE)
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("fixed", {}), dict):
        raise FileDamaged(f"{path}: a configuration must be as it was written, but got {quoted(found)}", RESTORE)
    kept = {"format": 1, **found}
    if kept["format"] not in get_args(Format):
        raise UserError(
            f"{path}: `format` must be one of {', '.join(map(str, get_args(Format)))}, but it is {kept['format']}",
            "run the version of Footprint that began the experiment, or begin another with --experiment NAME",
        )
    if "fixed" in kept:
        fixed = merged(default_settings(kept["format"]), kept["fixed"])
        if "steps" in kept["fixed"]:  # in format 1, `steps` overrides `epochs`
            fixed.pop("epochs", None)
        kept["fixed"] = {key: value for key, value in fixed.items() if f"space.{key}" not in kept}
    return json.loads(json.dumps(kept))


def reopened(records: Sequence[Record]) -> list[Record]:
    """Remove failed verdicts, so that those trials run again; return the records without a verdict."""
    for record in records:
        verdict = record.verdict()
        if verdict is not None and verdict.kind == "failed":
            record.reopen()
    return [record for record in records if record.verdict() is None]

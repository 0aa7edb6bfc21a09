"""The record of a trial: one directory that resume, analysis and the MLflow mirror read.

The first attempt writes into the directory itself. One that takes over from a process which may still write has a
directory `epoch-N` with the same layout (`trainables/attempt.py`), and readers take the highest.

Layout::

    spec.json                     the specification of the trial
    placement.json                the adapted modules by their full names, parameters per tower
    lineage.json                  the ancestors of a continued adapter, with their hashes and rates
    measured_by.json              of a baseline: the record that its results were measured for, if it is another one
    engines.json                  the engines that opened the trial, with their threads
    battery.json                  the results of the self-test, or the trial that ran it for this one
    metrics.jsonl                 one checksummed line per measurement; an incomplete last line is ignored
    samples/step-N.jsonl          prompts and answers of the probes, for people to read
    checkpoints/step-N/           adapter, optimizer, health monitor and progress; `manifest.json` is written last
    adapters/step-N/              the adapter of every eval in PEFT's format (`--keep all`); `manifest.json` last
    best/                         the best adapter that meets the constraint, in PEFT's format, with model card and
                                  `provenance.json` (`step`, `metrics`, labels, versions, digests); `manifest.json` last
    memory.json                   how its steps were made to fit the memory, if whole batches did not
    frozen.json                   whether its passes start from kept activations, and why
    overridden.json               preflight checks that `--force` overrode, if any
    labels.json                   success criteria, and degraded results of the health checks
    verdict.json                  why the trial ended
    manifest.json                 the hashes of the files of an ended trial, without checkpoints; written last
    derived.jsonl                 evals after the end, of scaled and averaged copies
    finalists.jsonl               evals after the end, of the candidates for the pick, on the reserve too
    holdout.jsonl                 evals after the end, of the picks on the holdout
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from trainables.errors import UserError
from trainables.io.files import FileDamaged, json_in, read_json, replace_directory, write_json, write_text
from trainables.io.manifest import MANIFEST, digests_in, is_whole
from trainables.lease import EPOCH, LEASE, LOCK, Superseded, highest_epoch, locked, read_lease, release
from trainables.measurement import Measurement, read_measurements
from trainables.spec import TrialSpec, read_spec
from trainables.verdict import VERDICT, Verdict, read_verdict

BEST, CHECKPOINTS, ADAPTERS = "best", "checkpoints", "adapters"
PILOTS = "pilots"  # of an experiment: the records of trials that try a rate, apart from its trials
DERIVED, FINALISTS, HOLDOUT = "derived.jsonl", "finalists.jsonl", "holdout.jsonl"
LATER_EVALS = (DERIVED, FINALISTS, HOLDOUT)  # written after the end of a trial
HOLDOUT_FILE = "holdout.json"  # of the experiment: names the rows that no eval of a trial asks
KEPT_MANIFEST = re.compile(r"(best|adapters/step-\d+)/manifest\.json")
NAME_WITH_ID = re.compile(r".+-([0-9a-f]{12})")
RUN_AGAIN = "restore it from a copy, or delete the trial's directory and launch again, without --resume"
Keep = Literal["all", "best"]  # the adapter of every eval, or the best one alone


@dataclass(frozen=True)
class Record:
    """Reads and writes the record of one trial; after a crash every write is either complete or absent.

    `home` is its directory, by which it is known. `epoch` is that of the attempt that writes; None reads the highest.
    """

    home: Path
    epoch: int | None = None

    @classmethod
    def at(cls, directory: Path) -> Record:
        """Return the record in a directory, which may be that of one of its attempts."""
        epoch = directory.name.removeprefix(EPOCH)
        if directory.name.startswith(EPOCH) and epoch.isdecimal():
            return cls(directory.parent, int(epoch))
        return cls(directory)

    @property
    def directory(self) -> Path:
        """Return the directory of its attempt: `home`, or `epoch-N` in it after a takeover."""
        epoch = highest_epoch(self.home) if self.epoch is None else self.epoch
        return self.home / f"{EPOCH}{epoch}" if epoch else self.home

    @property
    def name(self) -> str:
        """Return the name of its home, `<trial name>-<trial id>`."""
        return self.home.name

    # ---------------------------------------------------------------- specification
    def create(self, spec: TrialSpec) -> None:
        """Create the directory and write the spec; an existing record keeps its spec (the id is the same)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            write_json(self.directory / "spec.json", spec.model_dump(mode="json"))

    def exists(self) -> bool:
        """True when the record was created, and nobody has deleted it since."""
        return (self.directory / "spec.json").exists()

    def spec(self) -> TrialSpec:
        """Read back the spec.

        Raises:
            FileDamaged: it is missing or invalid, or it has another id than the directory.
        """
        path = self.directory / "spec.json"
        if not path.exists():
            raise FileDamaged(f"{path}: a record must have its specification, but the file is missing", RUN_AGAIN)
        try:
            spec = _spec_in(path.read_bytes(), path)
        except UserError as error:
            raise FileDamaged(error.message, RUN_AGAIN) from None
        if (named := NAME_WITH_ID.fullmatch(self.name)) and named[1] != spec.trial_id:
            raise FileDamaged(
                f"{path}: a specification must have the id of its directory, {named[1]}, but its id is {spec.trial_id}",
                "the file was changed after it was written; " + RUN_AGAIN,
            )
        return spec

    def check_not_superseded(self, leased: int = 0) -> None:
        """Check that no later attempt took the record over from the one that writes.

        `leased` is the epoch of its lease: on network storage a directory may be seen later than the file.

        Raises:
            Superseded: one did.
        """
        newest = max(leased, highest_epoch(self.home))
        if self.epoch is not None and newest > self.epoch:
            raise Superseded(f"{self.home}: attempt {newest} took over from attempt {self.epoch}")

    # ---------------------------------------------------------------- measurements
    def append(self, measurement: Measurement, name: str = "metrics.jsonl") -> None:
        """Append one checksummed line and sync it to disk.

        Raises:
            ValueError: a metric is NaN or infinite; such a trial needs a verdict instead.
        """
        self.check_not_superseded()
        broken = [name for name, value in measurement.metrics.items() if not math.isfinite(value)]
        if broken:
            raise ValueError(f"metrics must be finite, but {', '.join(broken)} at step {measurement.step} is not")
        self._drop_incomplete_line(self.directory / name)
        with (self.directory / name).open("a", encoding="utf-8") as file:
            file.write(measurement.line() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def measurements(self) -> list[Measurement]:
        """Read every complete line; if a resumed trial measured a step again, the last line counts.

        Raises:
            FileDamaged: a line before the last one does not match its checksum.
        """
        read = read_measurements(self.directory / "metrics.jsonl", RUN_AGAIN)
        latest = {(one.kind, one.step): one for one in read}
        return sorted(latest.values(), key=lambda one: (one.step, one.kind))

    def evals(self) -> list[Measurement]:
        """Return the eval measurements in order of step."""
        return [one for one in self.measurements() if one.kind == "eval"]

    def forget_after(self, step: int) -> None:
        """Delete measurements, checkpoints and adapters after `step`, where the trial resumes and measures again."""
        (self.directory / MANIFEST).unlink(missing_ok=True)
        for folder in (CHECKPOINTS, ADAPTERS):
            for later in self._saved_steps(folder):
                if later > step:
                    shutil.rmtree(self.directory / folder / f"step-{later}")
        for name in LATER_EVALS:
            if (self.directory / name).exists():
                self._rewrite(name, [one for one in self.later_evals(name) if one.step <= step])
        self._rewrite("metrics.jsonl", [one for one in self.measurements() if one.step <= step])

    def later_evals(self, name: str) -> list[Measurement]:
        """Read a file of evals after the end, such as `derived.jsonl`; a damaged line raises FileDamaged."""
        return read_measurements(self.directory / name, f"delete {self.directory / name} and measure again")

    def _rewrite(self, name: str, kept: list[Measurement]) -> None:
        write_text(self.directory / name, "".join(one.line() + "\n" for one in kept))

    def write_samples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write the prompts and answers of one eval."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(self.directory / "samples" / f"step-{step}.jsonl", "".join(lines))

    def samples(self, step: int) -> list[dict[str, Any]]:
        """Read the prompts and answers of one eval."""
        text = (self.directory / "samples" / f"step-{step}.jsonl").read_text(encoding="utf-8")
        # not splitlines(): it also splits at U+0085 and U+2028, which JSON does not escape and a model may generate
        return [json.loads(line) for line in text.split("\n") if line]

    def _drop_incomplete_line(self, path: Path) -> None:
        if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            write_text(path, data[: data.rfind(b"\n") + 1].decode())

    # ---------------------------------------------------------------- checkpoints
    @contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """Yield a temporary directory that then becomes `name` (`checkpoints/step-30`, `best`) with its manifest.

        The manifest is written last and the directory is then renamed, so an existing directory is complete.
        """
        self.check_not_superseded()
        target = self.directory / name
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        write_json(temporary / MANIFEST, {"sha256": digests_in(temporary)})
        replace_directory(temporary, target)

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of complete, unmodified checkpoints, newest first; damaged ones are skipped."""
        return [step for step in self._saved_steps(CHECKPOINTS) if is_whole(self.checkpoint(step))]

    def checkpoint(self, step: int) -> Path:
        """Return the directory of the checkpoint of `step`."""
        return self.directory / CHECKPOINTS / f"step-{step}"

    def adapter_at(self, step: int) -> Path | None:
        """Return a whole directory with the adapter of the eval at `step`, None if none is kept.

        It is in `adapters`; in a record that keeps `best` alone, it may be `best` or a checkpoint.
        """
        best = self.best()
        candidates = (self.directory / ADAPTERS / f"step-{step}", self.checkpoint(step))
        own = next((one for one in candidates if is_whole(one)), None)
        return own or (self.directory / BEST if best is not None and best.step == step else None)

    def _saved_steps(self, folder: str) -> list[int]:
        names = (path.name.removeprefix("step-") for path in (self.directory / folder).glob("step-*"))
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def keep_checkpoints(self, count: int) -> None:
        """Delete all but the newest `count` complete checkpoints."""
        for step in self.checkpoint_steps()[count:]:
            shutil.rmtree(self.checkpoint(step))

    def best(self) -> Measurement | None:
        """Return the eval of the best checkpoint that meets the constraint, or None if none does."""
        if not is_whole(self.directory / BEST):
            return None
        provenance = read_json(self.directory / BEST / "provenance.json")
        return Measurement("eval", provenance["step"], provenance["metrics"])

    # ---------------------------------------------------------------- verdict
    def close(self, verdict: Verdict) -> None:
        """Write the verdict, then the manifest of the record, by which `check_record` finds damage; give it back.

        Raises:
            Superseded: another attempt took the record over.
            FileDamaged: the lease is damaged; no verdict is written.
        """
        with locked(self.home):  # whoever takes over finds either the verdict, or a writer that is refused
            self.check_not_superseded(read_lease(self.home).epoch)
            write_json(self.directory / VERDICT, verdict.model_dump(mode="json"))
            write_json(self.directory / MANIFEST, {"sha256": self.digests()})
            release(self.home)

    def digests(self) -> dict[str, str]:
        """Return the hash of each file of the record, except those that are written after its end.

        Checkpoints, `best` and the adapters of evals have manifests of their own; those of the last two are included.
        """
        files = {str(path.relative_to(self.directory)): path for path in self.directory.rglob("*") if path.is_file()}
        apart = (".", f"{CHECKPOINTS}/", f"{BEST}/", f"{ADAPTERS}/", EPOCH)
        own = {name for name in files if not name.startswith(apart) or KEPT_MANIFEST.fullmatch(name)}
        own -= {MANIFEST, LEASE, LOCK, *LATER_EVALS}
        return {name: sha256(files[name].read_bytes()).hexdigest() for name in sorted(own)}

    def verdict(self) -> Verdict | None:
        """Return the verdict, or None if the trial has not ended; a file that is no verdict raises FileDamaged."""
        return read_verdict(self.directory, RUN_AGAIN)

    def reopen(self) -> None:
        """Delete a `failed` verdict, so that the trial can run again."""
        (self.directory / MANIFEST).unlink(missing_ok=True)
        (self.directory / VERDICT).unlink(missing_ok=True)


@lru_cache(maxsize=12_000)  # of 4 kB each; a launch of thousands of trials asks each record many times
def _spec_in(content: bytes, path: Path) -> TrialSpec:
    return read_spec(json_in(content, path), where=str(path))


def records_under(directory: Path) -> list[Record]:
    """Return the records in `directory`, sorted by name; a record that lost its spec is one of them."""
    found = sorted(path for path in directory.glob("*") if path.is_dir())
    return [one for one in map(Record, found) if (one.home / "spec.json").exists() or _lost_its_spec(one.home)]


def _lost_its_spec(directory: Path) -> bool:
    # an empty directory is what a launch leaves that was killed while it began its trials
    return NAME_WITH_ID.fullmatch(directory.name) is not None and any(directory.glob("[!.]*"))

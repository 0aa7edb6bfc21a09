"""Runs short trials on a few rows of the miniature, with a planted failure or without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.constraint import BestConstraint
from trainables.data.duplicates import digest_of
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.model.base_files import base_digest
from trainables.record import Record
from trainables.spec import FORMAT, Placement, Source, TrialSpec

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.probes.probe import Baseline
    from trainables.selftest.reload import Reloader


TRAIN_ROWS, VALIDATION_ROWS, OOD_ROWS = 16, 3, {"irrelevant": 2, "caption": 1, "text": 3}
EVAL_STEP = 4
ANYTHING_GOES = BestConstraint(max_irrelevant_pass_drop=1.0, max_hallucination_rise=1.0)


@dataclass(frozen=True)
class Seen:
    """The check that ended or labelled a trial: its name, level, step and evidence."""

    check: str
    level: str
    step: int
    evidence: str = ""


Before = Callable[["Bench", ExitStack], None]
After = Callable[[Any, ExitStack], None]


@dataclass(frozen=True)
class Injection:
    """A failure to plant `before` the trial opens or `after`, and the checks that must find it by `latest_step`.

    `own_base`: the failure damages the base, so the next trial must load a new one.
    """

    failure: str
    what: str
    checks: tuple[str, ...]
    latest_step: int
    before: Before | None = None
    after: After | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    quantization: str = "none"
    own_base: bool = False
    level: str = "invalid"


class Bench:
    """One engine with its baseline.

    `kind` of training rows: `image`, `mixed` with a text row after each, or the `validation` rows.
    """

    def __init__(
        self, directory: Path, quantization: str = "none", kind: str = "image", dtype: str = "float32"
    ) -> None:
        self.directory, self.quantization, self.dtype = directory, quantization, dtype
        self.sources = few_rows(directory / "data", kind)
        self.load()
        self.baseline = self._baseline()
        self.runs = 0

    def load(self) -> None:
        """Load a new base, with a process that checks saved adapters, started at its first use."""
        import torch

        from trainables.engine import Engine
        from trainables.selftest.reload import Reloader

        torch.set_num_threads(1)
        self.engine: Engine = Engine.load(self.spec(), torch.device("cpu"))
        self.reloader: Reloader = getattr(self, "reloader", None) or Reloader(self.spec(), "cpu")

    def spec(self, **changes: Any) -> TrialSpec:
        """Make a spec of eight steps with an eval after four, warm-up over the first two."""
        values: dict[str, Any] = {
            "name": "trial",
            **self.sources,
            "placement": Placement(language=2, vision=2),
            "rank": 4,
            "alpha": 8.0,
            "quantization": self.quantization,
            "compute_dtype": self.dtype,
            "learning_rate": 2e-3,
            "vision_learning_rate": 4e-3,
            "warmup_ratio": 0.25,
            "steps": 2 * EVAL_STEP,
            "batch_rows": 2,
            "eval_every_steps": EVAL_STEP,
        }
        return TrialSpec(**(values | changes))

    def run(self, changes: Mapping[str, Any], before: Before | None = None, after: After | None = None) -> list[Seen]:
        """Run a trial from open to verdict; returns its end first, then its labels."""
        from trainables.model.lora import PlacementMismatch
        from trainables.selftest.run import SelfTest
        from trainables.training.trial import open_trial

        spec, record = self.spec(**changes), self.next_record()
        record.create(spec)
        with ExitStack() as stack:
            if before:
                before(self, stack)
            selftest = SelfTest(self.engine, self.reloader)
            try:
                trial: Any = open_trial(self.engine, spec, record, self.baseline, (), ANYTHING_GOES, selftest)
            except PlacementMismatch as error:
                self.load()  # half placed
                return [Seen("placement", "invalid", 0, str(error))]
            stack.callback(trial.remove)
            if after:
                after(trial, stack)
            verdict = None
            while verdict is None:
                verdict = trial.advance(lambda: False)
        end = Seen(verdict.cause or verdict.kind, verdict.kind, verdict.step, verdict.reason or "")
        return [end, *self._labels(record)]

    def next_record(self) -> Record:
        """Return a new record for the next run."""
        self.runs += 1
        return Record(self.directory / "trials" / f"{self.runs}")

    def close(self) -> None:
        """End the process that checks saved adapters."""
        self.reloader.close()

    def _baseline(self) -> Baseline:
        from trainables.probes.captions import captions
        from trainables.probes.probe import Baseline

        scores, answers = self.engine.evaluator.measure(None)
        return Baseline(scores.metrics, captions(self.engine.evaluator.data, answers), scores.counts)

    def _labels(self, record: Record) -> list[Seen]:
        path = record.directory / "labels.json"
        if not path.exists():
            return []
        values = json.loads(path.read_text(encoding="utf-8"))
        found = [Seen(one["check"], one["level"], one["step"], one["evidence"]) for one in values["degraded"]]
        if not values["minimum"]["met"]:
            unmet = "; ".join(one["rule"] for one in values["minimum"]["criteria"] if not one["met"])
            found.append(Seen("minimum", "label", record.evals()[-1].step, unmet))
        return found


def planted(bench: Bench, injection: Injection) -> Seen | None:
    """Plant one failure and return the check that found it, or None."""
    try:
        seen = bench.run(injection.changes, injection.before, injection.after)
    finally:
        if injection.own_base:
            bench.load()
    return next((one for one in seen if one.check in injection.checks and one.level == injection.level), None)


def few_rows(directory: Path, kind: str) -> dict[str, Source]:
    """Cut the miniature's data set to a few rows of each kind."""
    files = datasets.write(directory, seed=0)
    ood = _lines(files.ood)
    kept: dict[str, Sequence[str]] = {
        "train": _lines(files.train)[:TRAIN_ROWS],
        "validation": _lines(files.validation)[:VALIDATION_ROWS],
        "ood": [line for name, count in OOD_ROWS.items() for line in _of_kind(ood, name)[:count]],
    }
    if kind == "validation":
        kept["train"] = kept["validation"]
    if kind == "mixed":
        texts = [_as_training_row(line) for line in _of_kind(ood, "text")[-TRAIN_ROWS:]]
        kept["train"] = [one for pair in zip_longest(kept["train"], texts) for one in pair if one]
    sources = {"base": Source(path=BASE_DIRECTORY, sha256=base_digest(BASE_DIRECTORY, FORMAT))}
    for name, lines in kept.items():
        path = directory / f"{kind}-{name}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        sources[name] = Source(path=path, sha256=digest_of(path))
    return sources


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _of_kind(lines: Sequence[str], kind: str) -> list[str]:
    return [line for line in lines if json.loads(line)["kind"] == kind]


def _as_training_row(line: str) -> str:
    row = json.loads(line)
    turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["expect"]}]
    return json.dumps({"id": row["id"], "messages": turns}, ensure_ascii=False)

"""Tests the load benchmark: its engine has the real one's seam and leaves whole records, and its page says what ran."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.fake_engine import FakeRunner
from benchmarks.load_driver import EXPERIMENT, measure_driver
from benchmarks.load_page import LINES, page
from trainables.constraint import BestConstraint
from trainables.errors import InfrastructureError, UserError
from trainables.guards import GUARDS
from trainables.record import Record
from trainables.record_check import check_record
from trainables.recorded_baselines import RecordedBaselines
from trainables.spec import Placement, Source, TrialSpec
from trainables.workers.cohort_runner import CohortRunner
from trainables.workers.protocol import Request, Rules


def spec_on(directory: Path, **changes: object) -> TrialSpec:
    rows = [{"id": f"v{number}"} for number in range(20)]
    ood = [
        {"id": f"{kind}{number}", "kind": kind} for kind in ("irrelevant", "caption", "text") for number in range(60)
    ]
    sources = {}
    for name, lines in (("train", rows), ("validation", rows), ("ood", ood)):
        path = directory / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        sources[name] = Source(path=path, sha256=name)
    return TrialSpec(name="C2", base=Source(path=directory, sha256="base"), **sources, **changes)  # type: ignore[arg-type]


def test_the_fake_runner_has_the_methods_that_an_engine_calls() -> None:
    def seam(kind: type) -> dict[str, list[str]]:
        public = {name: one for name, one in vars(kind).items() if inspect.isfunction(one) and name[0] != "_"}
        return {name: list(inspect.signature(one).parameters) for name, one in public.items()}

    assert seam(FakeRunner) == seam(CohortRunner)
    assert {"engine_key", "threads", "stop_file"} <= FakeRunner.__dataclass_fields__.keys()


def test_fake_trials_leave_records_that_are_whole_and_can_be_read(tmp_path: Path) -> None:
    trial = spec_on(tmp_path, placement=Placement(language=2, vision=2))
    records = []
    for spec in (trial.baseline(), trial):
        records.append(Record(tmp_path / "load" / "trials" / f"{spec.name}-{spec.trial_id}"))
        records[-1].create(spec)
    known = RecordedBaselines({records[0].spec().trial_id: str(records[0].home)})
    rules = Rules(known, GUARDS, BestConstraint(1.0, 1.0))
    request = Request((str(records[1].home),), rules, str(tmp_path / "STOP"), 1, 0)
    runner = FakeRunner(1, tmp_path / "STOP", seconds=0.0)
    assert runner.open(records[0], request) is None, "a baseline is measured at once"
    opened = runner.open(records[1], request)
    assert opened is not None and runner.start([opened]) == (str(records[1].home),)
    while runner.members():
        runner.advance(())
    for record in records:
        check_record(record)
    ended, best = records[1].verdict(), records[1].best()
    assert ended is not None and ended.kind in ("completed", "pruned") and best is not None
    assert [one.step for one in records[1].evals()] == [24, 48, 72, 96, 120][: ended.step // 24]
    assert records[0].evals()[0].reserve["irrelevant_pass"].values


@pytest.mark.parametrize("text", ["15", "0", "-10", "ten"])
def test_a_size_that_its_arms_cannot_share_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be multiples of 10"):
        load._sizes(text, "--trials")


def test_a_command_costs_what_its_process_used_and_one_that_fails_is_an_error(tmp_path: Path) -> None:
    busy = "import time\nbytearray(200_000_000)\nwhile time.process_time() < 0.3: pass"
    cost = load.cost_of([sys.executable, "-c", busy], tmp_path)
    assert cost.cpu_seconds >= 0.3 and cost.wall_seconds >= 0.3 and cost.peak_memory_mb > 200
    with pytest.raises(InfrastructureError, match="ended with 2"):
        load.cost_of([sys.executable, "-c", "raise SystemExit(2)"], tmp_path)


def test_the_page_has_a_column_for_each_size_and_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    driver = {"trials": 100, "cpu_seconds": 25.0, "mirror_cpu_seconds": 5.0, "memory_mb": [400.0, 401.0, 402.0, 403.0],
              "lag_seconds": 1.5, "copied": 101, "ended": 101, "wall_seconds": 60.0}  # fmt: skip
    cost = {"wall_seconds": 3.0, "cpu_seconds": 2.0, "peak_memory_mb": 300.0}
    found = {
        "machine": {"date": "2026-11-29", "cpu": "2 cores", "versions": "Python 3.11"},
        "plans": {"10000": cost},
        "sweeps": {"100": {"driver": driver, "commands": {"--resume": cost}}},
    }
    load.write(tmp_path / "load.md", found)
    larger = {**driver, "trials": 1000, "cpu_seconds": 200.0}
    text = load.write(
        tmp_path / "load.md", {**found, "plans": {}, "sweeps": {"1000": {"driver": larger, "commands": {}}}}
    )
    assert "| trials | 100 | 1,000 | goal |" in text and "2026-11-29, 2 cores, Python 3.11" in text
    assert "| driver, CPU seconds a trial | 0.250 | 0.200 | ≤ 0.3 |" in text
    assert "| `--resume` of the finished sweep | 3.0 s (2.0 s of CPU, 300 MB) | - | < 10 s |" in text
    assert "| 10,000 | 3.0 | 2.0 | 300 |" in text
    assert text == page(json.loads((tmp_path / "load.json").read_text()))
    assert sum(line.startswith("| ") for line in text.splitlines()) == len(LINES) + 5


@pytest.mark.slow
def test_twenty_trials_go_through_a_real_launch(tmp_path: Path) -> None:
    found = measure_driver(20, tmp_path, 4)
    assert (found.trials, found.ended, found.copied) == (20, 21, 21)
    assert found.cpu_seconds > found.mirror_cpu_seconds > 0 and len(found.memory_mb) == 4
    assert found.lag_seconds >= 0
    for command in load.reading_commands(tmp_path).values():
        load.cost_of(command, tmp_path)
    assert "21/21 trials ended" in (tmp_path / "terminal.txt").read_text(encoding="utf-8")
    assert (tmp_path / "runs" / EXPERIMENT / "study.json").exists()

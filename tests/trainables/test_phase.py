"""Tests the phase that a worker writes for the launch: it costs little and no result depends on it."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import pytest

from trainables import phase
from trainables.io.files import write_json
from trainables.phase import FILE, PhaseFile, TrialPhase, TrialProcess, forget_phase, read_phase, read_process
from trainables.record import Record
from trainables.record_check import check_record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict


def test_a_change_is_written_at_once_and_steps_at_most_every_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [50.0]
    monkeypatch.setattr(phase.time, "monotonic", lambda: now[0])
    shown = PhaseFile(tmp_path)
    seen = []
    for seconds, name, step in (
        (0.0, "self-test", 0), (0.1, "training", 1), (0.5, "training", 2), (2.2, "training", 3), (2.3, "eval", 3),
    ):  # fmt: skip
        now[0] = 50.0 + seconds
        shown.show(name, step)
        seen.append(read_phase(tmp_path))
    assert seen == [
        TrialPhase("self-test", 0), TrialPhase("training", 1), TrialPhase("training", 1), TrialPhase("training", 3),
        TrialPhase("eval", 3),
    ]  # fmt: skip


def test_ten_thousand_steps_cost_a_fraction_of_a_millisecond_each(tmp_path: Path) -> None:
    shown, began = PhaseFile(tmp_path), time.perf_counter()
    for step in range(10_000):
        shown.show("training", step)
    assert (time.perf_counter() - began) / 10_000 < 1e-4


def test_a_storage_that_refuses_the_file_ends_nothing(tmp_path: Path) -> None:
    PhaseFile(tmp_path / "gone").show("eval")
    assert read_phase(tmp_path / "gone") is None
    forget_phase(tmp_path / "gone")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": "asleep", "step": 1}', '{"phase": "eval"}', "null"])
def test_what_cannot_be_read_is_no_phase(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_phase(tmp_path) is None
    assert read_process(tmp_path) is None


def test_the_file_says_which_process_trains_and_since_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = platform.node(), os.getpid()
    shown = PhaseFile(tmp_path)
    shown.show("self-test", 6)
    assert read_process(tmp_path) == TrialProcess(*here)
    for seconds, step in ((1000.0, 7), (1010.0, 8)):
        monkeypatch.setattr(phase.time, "time", lambda now=seconds: now)
        shown.show("training", step)
        shown.show("eval", step)
    assert read_process(tmp_path) == TrialProcess(*here, began_seconds=1000.0, first_step=7)


def test_a_phase_of_an_earlier_version_names_no_process(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"phase": "training", "step": 3}))
    assert read_phase(tmp_path) == TrialPhase("training", 3)
    assert read_process(tmp_path) is None


def test_the_phase_is_no_part_of_the_record(tmp_path: Path) -> None:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    record = Record(tmp_path / "trial")
    record.create(TrialSpec(name="C2", placement=Placement(language=2), **sources))
    write_json(record.directory / "battery.json", {})
    PhaseFile(record.directory).show("training", 3)
    record.close(Verdict(kind="infeasible", step=3))
    assert FILE not in record.digests()
    forget_phase(record.directory)
    check_record(record)
    PhaseFile(record.directory).show("training", 4)
    check_record(record)

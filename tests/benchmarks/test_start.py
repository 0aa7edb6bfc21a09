"""Tests that the phases of a start are those which the records show, each at the first time that it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.start import Timeline, phases_in, table
from trainables.phase import PhaseFile
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict


def test_the_phases_are_seen_one_after_another(tmp_path: Path) -> None:
    experiment = tmp_path / "runs" / "timed"
    assert list(phases_in(experiment)) == []
    sources: dict[str, Any] = {
        key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")
    }
    base = Record(experiment / "trials" / "A0-x")
    arm = Record(experiment / "trials" / "A1-x")
    for record, layers in ((base, 0), (arm, 2)):
        record.create(TrialSpec(name=record.name, placement=Placement(language=layers), **sources))
    (experiment / "study.json").write_text("{}")
    assert set(phases_in(experiment)) == {"plan accepted"}
    (experiment / "ray" / "launch-1").mkdir(parents=True)
    PhaseFile(base.directory).show("loading")
    assert set(phases_in(experiment)) == {"plan accepted", "Ray Tune started", "base loading"}
    base.close(Verdict(kind="completed", step=0))
    PhaseFile(arm.directory).show("self-test")
    before = set(phases_in(experiment))
    assert {"baseline known", "first self-test"} <= before and "self-tests done" not in before
    PhaseFile(arm.directory).show("training", 0)
    assert "self-tests done" in set(phases_in(experiment)) and "first step" not in set(phases_in(experiment))
    PhaseFile(arm.directory).show("training", 1)
    assert "first step" in set(phases_in(experiment))


def test_the_table_has_medians_and_the_ratio_and_leaves_out_what_was_not_seen() -> None:
    here = [Timeline({"first step": value, "plan accepted": 1.0}) for value in (10.0, 12.0, 50.0)]
    there = [Timeline({"first step": value}) for value in (40.0, 48.0, 41.0)]
    here[0].see("first step", 99.0)
    assert table({"here": here, "there": there}) == "phase | here | there | ratio\nfirst step | 12.0 s | 41.0 s | 0.29"
    assert table({"here": here}).splitlines()[1] == "plan accepted | 1.0 s | "

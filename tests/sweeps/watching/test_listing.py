"""Tests `footprint list`: which directories are experiments, and what it says of each."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from ended import Ended, ended_by
from installed_commands import declared, install

from sweeps.cli import footprint
from sweeps.execution.experiment import Experiment
from sweeps.watching.experiments import disk_use
from sweeps.watching.listing import size_text
from trainables.errors import ExitCode
from trainables.record import Record
from trainables.verdict import Verdict


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path_factory.mktemp("metadata"), declared()))


def listing(root: Path, *words: str) -> Ended:
    return ended_by(footprint.main, "footprint", "list", *words, "--storage", str(root))


def test_the_list_counts_trials_and_names_the_launch(
    make_record: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    records = [make_record(f"C2-s{seed}", vision=2 + seed) for seed in range(3)]
    records[0].close(Verdict(kind="completed", step=60))
    (records[1].directory / "verdict.json").write_text("{")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "study.json").write_text("{}")
    for name in ("data", ".removed", "images"):  # what a storage also holds
        (tmp_path / name).mkdir()
    (tmp_path / "begun" / "lease.json").write_text("{")
    with Experiment(tmp_path / "stage4").held():
        found = json.loads(listing(tmp_path, "--json").stdout)["experiments"]
        text = listing(tmp_path).stdout.splitlines()
    assert [one["experiment"] for one in found] == ["begun", "stage4"]
    assert {key: found[1][key] for key in ("trials", "ended", "damaged")} == {"trials": 3, "ended": 1, "damaged": 1}
    launch = found[1]["launch"]
    assert launch.pop("heartbeat_age_seconds") < 5
    assert launch == {"number": 1, "host": platform.node(), "process_id": os.getpid(), "is_lost": False}
    assert "lease.json: " in found[0]["launch"]["damage"] and found[0]["trials"] == 0
    assert text[0].split() == ["experiment", "trials", "ended", "size", "last", "change", "launch"]
    assert text[1].rstrip().endswith("its lease is damaged")
    assert "launch 1 runs it" in text[2]
    [_, free] = json.loads(listing(tmp_path, "--json").stdout)["experiments"]
    assert free["launch"] is None


def test_size_and_last_change_are_those_of_all_files(make_record: Callable[..., Record], tmp_path: Path) -> None:
    record = make_record()
    before = disk_use(tmp_path / "stage4")
    (record.directory / "best").mkdir()
    (record.directory / "best" / "adapter_model.safetensors").write_bytes(os.urandom(3_000_000))
    os.utime(record.directory / "best" / "adapter_model.safetensors", (2e9, 2e9))
    after = disk_use(tmp_path / "stage4")
    assert 3_000_000 <= after.size_bytes - before.size_bytes < 3_100_000
    assert after.changed_seconds == 2e9 > before.changed_seconds
    [found] = json.loads(listing(tmp_path, "--json").stdout)["experiments"]
    assert found["size_bytes"] == after.size_bytes and found["last_change"] == "2033-05-18T03:33:20+00:00"


def test_a_storage_without_experiments_and_one_that_is_not_there(tmp_path: Path) -> None:
    assert listing(tmp_path).stdout == f"no experiment in {tmp_path}\n"
    found = listing(tmp_path / "gone")
    assert found.exit_code == ExitCode.BAD_INPUT and "must be a directory of experiments" in found.stderr
    assert "`footprint smoke` runs a first one" in found.stderr


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 kB"), (999_999, "1,000.0 kB"), (10**6, "1.0 MB"), (2_340_000_000, "2.3 GB")]
)
def test_sizes_are_said_in_the_usual_units(size: int, text: str) -> None:
    assert size_text(size) == text

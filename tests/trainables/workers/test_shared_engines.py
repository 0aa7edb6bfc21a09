"""Tests that an engine's base is the shared one, is let go with the engine, and leaves no file when a launch ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from small_trials import Sources

from trainables.engine_log import uses
from trainables.model import shared_weights
from trainables.model.shared_files import node_directory
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import TrialSpec
from trainables.workers.cohort_runner import CohortRunner
from trainables.workers.engine_cache import EngineCache
from trainables.workers.protocol import Rules


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shared_weights, "LEAST_BYTES", 0)
    return node_directory()


def opened(cache: EngineCache, home: Path, spec: TrialSpec, baseline: Baseline) -> str:
    """Open a trial and return where the record says that its weights are."""
    from small_trials import ANYTHING_GOES

    record = Record(home)
    record.create(spec)
    trial = cache.open(record, Rules({spec.baseline().trial_id: baseline}, (), ANYTHING_GOES))
    assert trial is not None
    trial.remove()
    return uses(record.directory)[-1].weights


def test_two_engines_have_one_file_until_the_last_lets_go(
    sources: Sources, tmp_path: Path, directory: Path, baseline: Baseline
) -> None:
    first, second = EngineCache(sharing_launch="a"), EngineCache(sharing_launch="a")
    assert opened(first, tmp_path / "a", sources.spec(), baseline) == "shared, and loaded here"
    assert opened(second, tmp_path / "b", sources.spec(), baseline) == "shared"
    first.drop()
    assert list(directory.glob("*.weights")) and first.sharing is None
    runner = CohortRunner(1, tmp_path / "stop", cache=second)
    runner.end_sharing()
    assert list(directory.iterdir()) == [], "at the end of a launch"
    assert second.engine is not None
    second.drop()
    assert list(directory.iterdir()) == []


def test_an_engine_that_is_alone_writes_no_file(
    sources: Sources, tmp_path: Path, directory: Path, baseline: Baseline
) -> None:
    cache = EngineCache()
    assert opened(cache, tmp_path / "a", sources.spec(), baseline) == ""
    assert not directory.exists()
    CohortRunner(1, tmp_path / "stop", cache=cache).end_sharing()
    CohortRunner(1, tmp_path / "stop").end_sharing()

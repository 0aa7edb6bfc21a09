"""Tests that an engine's base is the shared one, is let go with the engine, and leaves no file when a launch ends."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_trials import Sources

from trainables.engine_log import uses
from trainables.model import base, shared_weights
from trainables.model.shared_files import node_directory
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import TrialSpec
from trainables.verdict import Verdict
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


def test_an_engine_that_let_go_of_all_bases_leaves_no_file(
    sources: Sources, tmp_path: Path, directory: Path, baseline: Baseline
) -> None:
    cache = EngineCache(sharing_launch="a")
    opened(cache, tmp_path / "a", sources.spec(), baseline)
    cache.drop()
    assert list(directory.glob("*.weights"))
    CohortRunner(1, tmp_path / "stop", cache=cache).end_sharing()
    assert list(directory.iterdir()) == []


def test_a_base_that_changes_while_it_is_loaded_is_shared_with_nobody(
    sources: Sources, tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = shutil.copytree(sources.spec().base.path, tmp_path / "base")
    spec = sources.spec()
    spec = spec.model_copy(update={"base": spec.base.model_copy(update={"path": copied})})
    original = base.load_model

    def changed(*given: Any) -> Any:
        model = original(*given)
        with (copied / "config.json").open("a", encoding="utf-8") as file:
            file.write(" ")
        return model

    monkeypatch.setattr(base, "load_model", changed)
    cache = EngineCache(sharing_launch="a")
    record = Record(tmp_path / "a")
    record.create(spec)
    assert cache.open(record, Rules({}, (), None)) is None  # type: ignore[arg-type] no constraint is read
    assert str(record.verdict()) == "failed(changed_source)"
    assert list(directory.iterdir()) == [] and cache.engine is None


class Broken:
    """A cohort whose trial is found invalid."""

    def __init__(self, home: Path) -> None:
        self.trials = [SimpleNamespace(record=SimpleNamespace(home=home))]

    def advance(self, stop_requested: Any) -> dict[str, Verdict]:
        return {"x": Verdict(kind="invalid", step=1, cause="drift", reason="the base has changed")}

    def remove(self) -> None: ...


@pytest.mark.parametrize("when", ["opened", "trained"])
def test_after_an_invalid_trial_the_base_is_loaded_for_this_engine_alone(
    when: str, sources: Sources, tmp_path: Path, directory: Path, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EngineCache(sharing_launch="a")
    runner: Any = CohortRunner(1, tmp_path / "stop", cache=cache)
    opened(cache, tmp_path / "a", sources.spec(), baseline)
    runner.close(drop_base=True)
    assert opened(cache, tmp_path / "b", sources.spec(), baseline) == "shared", "too little memory is no such reason"
    if when == "trained":
        (tmp_path / "b").mkdir(exist_ok=True)
        runner.cohort = Broken(tmp_path / "b")
        runner.advance(())
        runner.close(drop_base=True)
    else:
        record = Record(tmp_path / "c")
        record.create(sources.spec())
        invalid = Verdict(kind="invalid", step=0, cause="placement", reason="the base has changed")
        monkeypatch.setattr(runner, "_tested", lambda *_: record.close(invalid) and None)
        runner.open(record, None)
    assert cache.engine is None
    assert opened(cache, tmp_path / "d", sources.spec(), baseline) == "own: a trial was invalid on the shared weights"

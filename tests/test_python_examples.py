"""Tests that the examples in the docstrings of the public names run and give what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
from measured_experiment import Planned, baseline, write_experiment

import analysis
import sweeps

TRAIN = ("run", "resume")  # in this order: the second needs what the first leaves
NAMES = [(package, name) for package in (sweeps, analysis) for name in package.__all__ if name not in TRAIN]
ARMS = (baseline(), Planned("A1", [0.5, 0.6], [1.0, 0.98]), Planned("C2", [0.6, 0.8], [0.98, 0.96], vision=4))


def failures(package: object, name: str) -> int:
    value = getattr(package, name)
    module = importlib.import_module(value.__module__)
    [example] = doctest.DocTestFinder(recurse=False).find(value, name, module, globs={})
    assert example.examples, f"{name} has no example"
    return doctest.DocTestRunner().run(example).failed


@pytest.mark.parametrize(("package", "name"), NAMES, ids=lambda one: getattr(one, "__name__", one))
def test_an_example_runs(package: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if package is analysis:
        write_experiment(tmp_path, ARMS)
    assert failures(package, name) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_examples_that_train_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [failures(sweeps, name) for name in TRAIN] == [0, 0]


def test_each_public_name_says_what_it_is() -> None:
    for package in (sweeps, analysis):
        assert all(inspect.getdoc(getattr(package, name)) for name in package.__all__)


def test_an_example_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps.Arm, "__doc__", ">>> 1 + 1\n3\n")
    assert failures(sweeps, "Arm") == 1

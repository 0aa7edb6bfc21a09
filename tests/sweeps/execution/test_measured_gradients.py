"""Tests how a launch gets gradients: from the experiment that keeps them, else from another process, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_trials import trial
from rich.console import Console

from sweeps.execution import measured_gradients
from sweeps.execution.measured_gradients import FILE, MeasuredGradients, keep_gradients
from trainables.errors import UserError
from trainables.gradient_norms import GradientNorms, GradientSource
from trainables.io.files import FileDamaged
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import TOWERS, family_of
from trainables.spec import TrialSpec

FAMILY, CONFIG = family_of(BASE_DIRECTORY)
LINEARS = {tower: [one.name for block in FAMILY.towers(CONFIG)[tower] for one in block] for tower in TOWERS}


def norms_of(spec: TrialSpec, vision: float = 1.0) -> GradientNorms:
    norms = {name: vision if tower == "vision" else 2.0 for tower in TOWERS for name in LINEARS[tower]}
    return GradientNorms(source=GradientSource.of(spec), rows=32, supervised_tokens=9, loss=1.0, norms=norms)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrialSpec]:
    specs: list[TrialSpec] = []

    def measure(spec: TrialSpec) -> GradientNorms:
        specs.append(spec)
        return norms_of(spec)

    monkeypatch.setattr(measured_gradients, "measured_in_another_process", measure)
    return specs


def test_what_does_not_decide_the_gradients_is_measured_once(asked: list[TrialSpec], tmp_path: Path) -> None:
    measured = MeasuredGradients.of(tmp_path, Console(quiet=True))
    for changes in ({}, {"rank": 3}, {"seed": 4}, {"learning_rate": 1.0}, {"steps": 9}):
        assert len(measured(trial(**changes))["language"]) == 8
    assert len(asked) == 1
    measured(trial(quantization="nf4"))
    assert len(asked) == 2


def test_a_later_launch_reads_what_the_experiment_keeps(asked: list[TrialSpec], tmp_path: Path) -> None:
    first = MeasuredGradients.of(tmp_path, Console(quiet=True))
    found = first(trial())
    assert not (tmp_path / FILE).exists(), "a dry run must leave nothing"
    keep_gradients(tmp_path, tuple(first.found.values()))
    assert MeasuredGradients.of(tmp_path, Console(quiet=True))(trial()) == found
    assert len(asked) == 1


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"rows": 32}]', "not json"])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(FileDamaged, match=FILE):
        MeasuredGradients.of(tmp_path, Console(quiet=True))


def test_a_tower_without_a_gradient_is_refused(tmp_path: Path) -> None:
    spec = trial()
    assert spec.placement.vision
    kept = {one.source: one for one in [norms_of(spec, vision=0.0)]}
    with pytest.raises(UserError, match="that of the vision tower is 0 on the first 32 training rows"):
        MeasuredGradients(Console(quiet=True), kept)(spec)


def test_a_process_that_fails_is_an_error_with_its_own_message_above(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="the process that measures it ended with code 2"):
        measured_gradients.measured_in_another_process(trial())  # its rows do not exist
    assert "error:" in capfd.readouterr().err

"""Tests that only trials without a result need space, and that want of space is forgotten when there is some again."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from planned_trials import trial
from rich.console import Console

from sweeps.execution.adapter_space import begun_bytes, budget_bytes, keeping, waiting_bytes
from sweeps.execution.experiment import Experiment, configuration_of
from sweeps.execution.options import Launch
from sweeps.execution.storage import RESERVE_BYTES
from sweeps.launch import ResumedPlan, ResumedStudy
from sweeps.planning.forecast import forecast
from sweeps.stage4 import STUDY
from trainables.spec import TrialSpec
from trainables.verdict import Verdict

COMPLETED, FAILED = Verdict(kind="completed", step=20), Verdict(kind="failed", step=20, reason="a fault")


def trials() -> list[TrialSpec]:
    arms = [trial(name=f"C2-s{seed}", seed=seed, steps=100, eval_every_steps=20) for seed in range(4)]
    return [arms[0].baseline(), *arms]


@pytest.fixture
def begun(tmp_path: Path) -> Experiment:
    """A baseline and four trials: one completed, one failed, two waiting."""
    experiment = Experiment(tmp_path / "runs" / "stage4")
    experiment.configure(configuration_of(STUDY, trials()))
    for record, verdict in zip(experiment.begin(trials()), (COMPLETED, COMPLETED, FAILED, None, None), strict=True):
        if verdict:
            record.close(verdict)
    return experiment


def test_adapters_that_are_written_need_no_space_again(begun: Experiment, tmp_path: Path) -> None:
    forecasts, new = forecast(trials(), 100), Experiment(tmp_path / "runs" / "new")
    assert waiting_bytes(new, forecasts).adapters == budget_bytes(new, forecasts, 4).adapters == 4 * 5
    assert waiting_bytes(begun, forecasts).adapters == 3 * 5  # the failed one runs again
    assert budget_bytes(begun, forecasts, 6).adapters == 5 * 5
    assert budget_bytes(begun, forecasts, 1).needed == 0
    assert begun_bytes(begun) == waiting_bytes(begun, forecasts)
    for record in begun.records():
        record.reopen()
        record.close(COMPLETED)
    assert waiting_bytes(begun, forecasts).evals == waiting_bytes(begun, forecasts).needed == 0


def test_records_are_found_by_id_in_one_look_at_their_directory(
    begun: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: (looks.append(path), look(path))[1])
    renamed = [spec.model_copy(update={"name": f"other-{spec.name}"}) for spec in trials()]
    found = begun.records_of([*renamed, trial(name="new", seed=9)])
    assert {one.name for one in found[:-1]} == {one.name for one in begun.records()}
    assert found[-1].name.startswith("new-") and not found[-1].home.exists()
    assert looks == [begun.directory / "trials"]


def test_want_of_space_is_not_remembered_and_what_was_asked_is(
    begun: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = begun_bytes(begun)

    def keep(free_bytes: int, launch: Launch) -> str | None:
        monkeypatch.setattr("sweeps.execution.experiment.check_storage", lambda *_, **__: free_bytes)
        return keeping(begun, launch, size).keep

    enough = RESERVE_BYTES + size.needed + size.evals
    assert keep(enough - 1, Launch()) == "best"
    assert begun.keep is None
    assert keep(enough, Launch()) == "all"
    assert keep(enough - 1, Launch(keep="all")) == "best"  # run_batch takes what the launch says
    assert begun.keep == "all"
    assert keep(enough, Launch(keep="best")) == "best"
    assert keep(enough, Launch()) == "best"


def test_a_resumed_launch_decides_by_the_space_that_it_finds(
    begun: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str | None] = []
    size = begun_bytes(begun)
    monkeypatch.setattr("sweeps.launch.run_records", lambda *values: ran.append(values[-1].keep))
    monkeypatch.setattr(ResumedStudy, "_active", lambda self, _: self.study)
    console = Console(file=io.StringIO(), width=80)
    job = ResumedStudy(STUDY, Launch(storage=begun.directory.parent, console=console))
    for free_bytes in (RESERVE_BYTES + size.needed, RESERVE_BYTES + size.needed + size.evals):
        monkeypatch.setattr("sweeps.execution.experiment.check_storage", lambda *_, free=free_bytes, **__: free)
        job.run(ResumedPlan(begun.records()))
    assert ran == ["best", "all"]
    assert console.file.getvalue().count("Space is short: ") == 1  # type: ignore[attr-defined]

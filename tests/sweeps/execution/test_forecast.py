"""Tests that a launch begins with the cohort width that its plan prints, and where memory says nothing about it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned_trials import sources, trial
from rich.console import Console
from scanned_rows import rows

from sweeps.execution import session
from sweeps.execution.engine_plan import MOST_SEATS, describe
from sweeps.execution.experiment import Experiment
from sweeps.execution.forecast import forecast_texts, kept_width, planned_at_once, with_width, with_widths
from sweeps.execution.options import Launch
from sweeps.planning.active_guards import ActiveGuards
from sweeps.planning.data_quality import file_quality
from sweeps.planning.device_memory import Devices
from sweeps.planning.forecast import forecast
from sweeps.planning.pilots import PilotArm
from sweeps.planning.plan import Plan
from sweeps.planning.preflight import Preflight
from sweeps.planning.resources import USABLE_SHARE, resources
from sweeps.stage4 import STUDY
from trainables.io.files import FileDamaged, read_json

FOUR = [trial(name=f"C2-s{seed}", seed=seed, quantization="none") for seed in range(4)]


def planned(trials: float) -> Plan:
    """Return a plan of four trials on a device that holds so many of them."""
    quality = file_quality(rows("train", 40, tokens=600))
    data, forecasts = {"train": quality, "validation": quality, "ood": quality}, forecast(FOUR, 40)
    [one, *_] = resources(forecasts, data, [], True)
    each = one.memory.adapter + max(one.memory.graph, one.memory.cache)
    size = int((one.memory.weights + one.memory.casts + trials * each) / USABLE_SHARE) + 1
    devices = Devices((size,), are_given=True)
    found = resources(forecasts, data, [], True, devices.largest)
    return Plan(sources(), forecasts, Preflight(data, ()), ActiveGuards(STUDY), resources=found, devices=devices)


def launch_on(monkeypatch: pytest.MonkeyPatch, gpus: int, cores: int = 2, **changes: Any) -> Launch:
    monkeypatch.setattr("sweeps.execution.engine_text._machine", lambda launch: (cores, gpus))
    return Launch(console=Console(quiet=True), **changes)


@pytest.mark.parametrize(("held", "width"), [(4.0, None), (3.9, 3), (1.2, 1)])
def test_an_engine_begins_with_what_its_device_holds(
    held: float, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(held)
    launch = with_width(launch_on(monkeypatch, gpus=1), [plan], 4)
    assert launch.width == launch.most_trials == width
    told = "\n".join(forecast_texts([plan], launch, 4, ()))
    assert (f"An engine trains at most {width} of these trials at once" in told) == (width is not None)
    assert (f"at most {width} at once" in describe(FOUR, launch.cohort, launch.width)) == (width is not None)


def test_engines_without_a_gpu_share_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.execution.forecast.engines_here", lambda *_: 2)
    plan = planned(4.0)
    assert with_width(launch_on(monkeypatch, gpus=2), [plan], 4).width is None
    assert with_width(launch_on(monkeypatch, gpus=0), [plan], 4).width == 1, "each holds the weights too"
    tight = planned(1.0)
    shared = with_width(launch_on(monkeypatch, gpus=0), [tight], 4)
    assert shared.width == 1
    assert "do not hold the largest, which takes" in forecast_texts([tight], shared, 4, ())[-1]
    alone = with_width(launch_on(monkeypatch, gpus=1), [tight], 4)
    assert "of memory hold 1. The others follow." in forecast_texts([tight], alone, 4, ())[-1]


def test_the_memory_of_this_machine_says_nothing_about_the_nodes_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(2.0)
    assert plan.devices is not None
    found_here = replace(plan, devices=replace(plan.devices, are_given=False))
    launch = launch_on(monkeypatch, gpus=1, address="10.0.0.1:6379")
    assert with_width(launch, [found_here], 4).width is None and with_width(launch, [plan], 4).width == 2
    assert with_width(launch, [replace(plan, devices=None)], 4).width is None


def test_a_cohort_that_is_asked_for_stays_where_memory_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(3.0)
    narrow = with_width(launch_on(monkeypatch, gpus=1, cohort=2), [plan], 4)
    assert narrow.most_trials == 2
    wide = with_width(launch_on(monkeypatch, gpus=1, cohort=8), [plan], 4)
    assert wide.most_trials == 3
    assert "hold 3, fewer than --cohort 8. The others follow." in forecast_texts([plan], wide, 4, ())[-1]


def test_engines_and_seats_are_started_with_that_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    @contextmanager
    def engines(resources: Any, trials: int, stop_file: Path, max_trials: int | None, *_: Any):
        started.append(max_trials)
        yield type("Fleet", (), {"plans": ()})

    @contextmanager
    def ray_session(*_: Any):
        yield type("Resources", (), {"gpus": 0})

    monkeypatch.setattr("sweeps.execution.fleet.engines", engines)
    monkeypatch.setattr("sweeps.execution.ray_session.ray_session", ray_session)
    monkeypatch.setattr(session, "_run_all", lambda *given: started.append(given[4].most_seats))
    monkeypatch.setattr(session, "LiveTable", lambda *_: contextmanager(lambda: iter([None]))())
    for width, expected in ((3, [3, 3]), (None, [None, MOST_SEATS])):
        started.clear()
        launch = Launch(width=width, console=Console(quiet=True))
        with session.started_cluster(Experiment(tmp_path), 4, launch) as cluster:
            session.run_batch(STUDY, Experiment(tmp_path), [], cluster, launch, None)  # type: ignore[arg-type]
        assert started == expected


def test_a_launch_that_resumes_begins_with_the_width_of_the_plan(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path)
    assert kept_width(experiment) is None
    plan = planned(2.0)
    for width in (2, None):
        experiment.keep_forecast(with_widths(plan.resources, Launch(width=width)))
        assert kept_width(experiment) == width
    other = [replace(one, trial_id="other") for one in plan.resources[:1]]
    experiment.keep_forecast(with_widths(other, Launch(width=3)))
    assert kept_width(experiment) == 3 and len(read_json(tmp_path / "forecast.json")) == 5, "those of both launches"
    (tmp_path / "forecast.json").write_text('[{"trial_id": "of an earlier version", "at_once": 0}]')
    assert kept_width(experiment) == 1
    for damaged in ('["many"]', '[{"at_once": "3"}]', '[{"at_once": -2}]', '[{"at_once": true}]', "[{}]"):
        (tmp_path / "forecast.json").write_text(damaged)
        with pytest.raises(FileDamaged, match="must be as it was written") as error:
            kept_width(experiment)
        assert "delete it" in (error.value.hint or "")


def test_pilots_count_in_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, launch = planned(4.5), launch_on(monkeypatch, gpus=1)
    arm = PilotArm((FOUR[0],), tuple(FOUR[1:]))
    assert planned_at_once(plan) == 4 and planned_at_once(replace(plan, pilots=(arm,))) == 7
    assert with_width(launch, [plan], 4).width is None
    tried = replace(
        plan, pilot_resources=tuple(replace(one, trial_id=f"pilot-{one.trial_id}") for one in plan.resources)
    )
    assert with_width(launch, [tried], 8).width == 4

"""Tests the requests that a launch sends, and how it handles reports and errors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from sweeps.execution import schedulers, tuner
from sweeps.execution.engine_plan import Node
from sweeps.execution.ray_session import Resources
from sweeps.execution.relay import Relay
from sweeps.execution.schedulers import Asha
from sweeps.execution.tuner import TuneSettings, groups_of, requests_for, run_trials
from trainables.attempt import claim
from trainables.constraint import BestConstraint
from trainables.lease import Owner, Superseded
from trainables.measurement import Measurement
from trainables.record import Record
from trainables.record_check import check_record
from trainables.spec import Placement, Source, TrialSpec
from trainables.workers import protocol
from trainables.workers.protocol import ProtocolMismatch, Report, Request, Rules, TrialReport, check_version

RULES = Rules({}, (), BestConstraint(1.0, 1.0))
RESOURCES = Resources(cpus=2, gpus=1, nodes=(Node("a", cores=2, gpus=1),))


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    records = [Record(tmp_path / str(number)) for number in range(4)]
    for number, record in enumerate(records):
        record.create(TrialSpec(name=str(number), placement=Placement(language=4 - number), **sources))
    return records


def settings(tmp_path: Path, **more: Any) -> TuneSettings:
    return TuneSettings(RULES, RESOURCES, tmp_path / "STOP", retries=2, **more)


# ---------------------------------------------------------------- requests
def test_a_request_names_the_roster_that_knows_its_engine(records: list[Record], tmp_path: Path) -> None:
    assert requests_for(records[3:], settings(tmp_path), "roster") == [
        Request((str(tmp_path / "3"),), RULES, str(tmp_path / "STOP"), cpus=0.01, gpus=0, roster="roster")
    ]


def test_trials_that_share_most_wait_for_each_other_and_all_engines_begin_with_their_first(
    records: list[Record],
) -> None:
    def names(most_seats: int) -> list[tuple[list[str], int]]:
        found = groups_of(records, 2, most_seats)
        return [([Path(trial).name for trial in group.trials], group.share) for group in found]

    assert names(24) == [(["3", "2"], 0), (["1", "0"], 1)]
    assert names(1) == [(["3"], 0), (["1"], 1), (["2"], 0), (["0"], 1)]


def test_without_engines_every_request_holds_a_worker_of_its_own(records: list[Record], tmp_path: Path) -> None:
    scheduler = Asha(metric="eval_loss")
    assert requests_for(records, settings(tmp_path, scheduler=scheduler), None) == [
        Request(
            (str(record.directory),), RULES, str(tmp_path / "STOP"), cpus=2, gpus=1, scheduler_metrics=("eval_loss",)
        )
        for record in records
    ]


def test_the_config_of_tune_holds_only_requests(records: list[Record], tmp_path: Path) -> None:
    output = settings(tmp_path)
    requests = requests_for(records, output, None)
    built = tuner._tuner(requests, records, output, relay_to(Listener(), output))
    space: Any = built._local_tuner.param_space
    assert space == {"request": {"grid_search": requests}}


def test_a_scheduler_reads_what_reports_hold() -> None:
    assert (schedulers.TIME_ATTRIBUTE, schedulers.METRIC_PREFIX) == (protocol.TIME_ATTRIBUTE, protocol.METRIC_PREFIX)


def test_requests_and_tune_s_files_carry_the_number_of_the_launch(records: list[Record], tmp_path: Path) -> None:
    third = settings(tmp_path, launch=3)
    assert {one.lease_epoch for name in (None, "roster") for one in requests_for(records, third, name)} == {3}
    requests = requests_for(records, third, None)
    places = {
        tuner._tuner(requests, records, one, relay_to(Listener(), one))._local_tuner.get_run_config().storage_path
        for one in (third, settings(tmp_path, launch=4))
    }
    assert len(places) == 2, "two launches must not write the same files of Tune"


# ---------------------------------------------------------------- reports and errors
class Listener:
    """Keeps the names of the records that it is notified of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, record: Record) -> None:
        self.heard.append(f"started {record.name}")

    def advanced(self, record: Record) -> None:
        self.heard.append(f"advanced {record.name}")

    def retried(self, records: Sequence[Record], reason: str) -> None:
        self.heard.append(f"retried {', '.join(record.name for record in records)}: {reason}")


def relay_to(listener: Listener, given: TuneSettings) -> Relay:
    return Relay(listener, given.stop_file, given.launch, given.scheduler)


def report(record: Record, version: int = protocol.PROTOCOL_VERSION) -> Report:
    return Report((TrialReport(str(record.directory), 1, {}, None),), stopped=False, version=version)


def plant(monkeypatch: pytest.MonkeyPatch, *results: tuple[Request, Report | None, Exception | None]) -> None:
    """Make Tune deliver reports, and end every request with or without an error."""

    class Results(list[Any]):
        num_errors = sum(error is not None for _, _, error in results)

    def fit(relay: Any) -> Results:
        for request, reported, _ in results:
            relay.on_trial_start(0, [], SimpleNamespace(config={"request": request}))
            if reported is not None:
                relay.on_trial_result(0, [], None, {"report": reported})
        return Results(SimpleNamespace(config={"request": request}, error=error) for request, _, error in results)

    monkeypatch.setattr(tuner, "_tuner", lambda *given: SimpleNamespace(fit=lambda: fit(given[-1])))


def test_reports_reach_the_listener_and_errors_become_verdicts(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, listener = settings(tmp_path), Listener()
    good, bad = requests_for(records[:2], output, None)
    plant(
        monkeypatch, (good, report(records[0]), None), (bad, None, RuntimeError("Traceback\nValueError: no such row"))
    )
    run_trials(records[:2], output, listener)
    assert listener.heard == ["started 0", "advanced 0", "started 1", "advanced 0", "advanced 1"]
    verdict = records[1].verdict()
    assert verdict is not None and (str(verdict), verdict.reason) == ("failed(ValueError)", "ValueError: no such row")
    assert str(records[0].verdict()) == "failed(NoResult)", "a trial without a result is not called done"


def test_a_trial_that_was_stopped_with_its_launch_has_no_verdict(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = settings(tmp_path)
    [request] = requests_for(records[:1], output, None)
    plant(monkeypatch, (request, report(records[0]), None))
    output.stop_file.touch()
    run_trials(records[:1], output, Listener())
    assert records[0].verdict() is None


def test_a_report_of_another_version_is_refused(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, listener = settings(tmp_path), Listener()
    [request] = requests_for(records[:1], output, None)
    plant(monkeypatch, (request, report(records[0], version=99), None))
    with pytest.raises(ProtocolMismatch, match="but a report has version 99"):
        run_trials(records[:1], output, listener)
    assert listener.heard == ["started 0"]


def test_a_worker_that_refuses_a_request_ends_the_launch_and_no_trial(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = settings(tmp_path)
    [request] = requests_for(records[:1], output, None)
    with pytest.raises(ProtocolMismatch) as refused:
        check_version(report(records[0], version=99))
    error = RayTaskError("step", "Traceback", refused.value).as_instanceof_cause()
    plant(monkeypatch, (request, None, error))
    with pytest.raises(ProtocolMismatch, match="version 99"):
        run_trials(records[:1], output, Listener())
    assert records[0].verdict() is None


# ---------------------------------------------------------------- who closes a record
ELSEWHERE = Owner(host="node-b", machine="node-b boot", pid=7, started=1)


def test_a_trial_whose_engine_may_live_is_closed_where_that_engine_cannot_write(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = claim(records[0], me=ELSEWHERE)
    output = settings(tmp_path)
    [request] = requests_for(records[:1], output, None)
    plant(monkeypatch, (request, None, RuntimeError("ActorDiedError: the node is gone")))
    run_trials(records[:1], output, Listener())
    assert records[0].directory == records[0].home / "epoch-1"
    assert str(records[0].verdict()) == "failed(ActorDiedError)"
    with pytest.raises(Superseded):
        late.append(Measurement("eval", 2, {"eval_loss": 1.0}))
    check_record(records[0])


def test_a_trial_whose_directory_was_deleted_is_lost_alone(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = settings(tmp_path)
    first, second = requests_for(records[:2], output, None)
    shutil.rmtree(records[0].home)
    failed = RuntimeError("ActorDiedError: the node is gone")
    plant(monkeypatch, (first, None, failed), (second, None, failed))
    run_trials(records[:2], output, Listener())
    assert not records[0].home.exists() and str(records[1].verdict()) == "failed(ActorDiedError)"


def test_a_trial_that_a_scheduler_stops_is_closed_in_place(records: list[Record], tmp_path: Path) -> None:
    claim(records[0], me=ELSEWHERE).append(Measurement("eval", 2, {"eval_loss": 1.0}))
    output = settings(tmp_path, scheduler=Asha(metric="eval_loss"))
    [request] = requests_for(records[:1], output, None)
    relay_to(Listener(), output).on_trial_complete(0, [], SimpleNamespace(config={"request": request}))
    verdict = records[0].verdict()
    assert verdict is not None and verdict.kind == "pruned"
    assert records[0].directory == records[0].home


# ---------------------------------------------------------------- shared processes
class Fleet:
    """Engines of a launch, of which only their number and the groups that they were told count."""

    engines, roster_name = {"one": "node", "two": "node"}, "roster"

    def begin(self, groups: Sequence[Any], retries: int) -> None:
        self.groups = groups


def test_one_process_waits_for_a_group_and_with_a_scheduler_one_for_each_trial(
    records: list[Record], tmp_path: Path
) -> None:
    fleet: Any = Fleet()
    shared = settings(tmp_path, fleet=fleet)
    requests = tuner._assigned_requests(records, shared, fleet)
    assert [(one.trials, one.shares_seat) for one in requests] == [(group.trials, True) for group in fleet.groups]
    assert sorted(trial for one in requests for trial in one.trials) == sorted(str(one.home) for one in records)
    for own in (settings(tmp_path, fleet=fleet, scheduler=Asha()), settings(tmp_path, fleet=fleet, own_seats=True)):
        alone = tuner._assigned_requests(records, own, fleet)
        assert [(len(one.trials), one.shares_seat) for one in alone] == [(1, False)] * 4


def test_processes_are_as_many_as_trials_may_wait(records: list[Record]) -> None:
    def of(*sizes: int) -> list[Request]:
        return [Request(tuple("abcdefgh"[:size]), RULES, "stop", 0.01, 0) for size in sizes]

    assert tuner.seats_of_an_engine(of(1, 1, 1), 24) == 24
    assert tuner.seats_of_an_engine(of(8, 2), 24) == 3
    assert tuner.seats_of_an_engine(of(8), 4) == 1

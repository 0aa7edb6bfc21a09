"""Tests the values that cross Ray: they round-trip, and another version is refused."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from re import split
from typing import Any

import pytest

from trainables.constraint import BestConstraint
from trainables.errors import UserError
from trainables.guards import Ceiling, Floor
from trainables.probes.probe import Baseline
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict
from trainables.workers.protocol import (
    PROTOCOL_VERSION,
    ProtocolMismatch,
    Report,
    Request,
    Rules,
    TrialReport,
    check_version,
    report_on,
    tune_result,
)

REQUEST = Request(
    trials=("/runs/a", "/runs/b"),
    rules=Rules(
        {"0123456789ab": Baseline({"eval_loss": 1.5}, {"a.png": "a cat"})},
        (Floor("ood", 0.1, 0.2, 2), Ceiling("eval_loss", 0.5, 1)),
        BestConstraint(0.1, 0.2),
    ),
    stop_file="/runs/STOP",
    cpus=0.5,
    gpus=1,
    engine="engine-1",
    peers=("/runs/a", "/runs/b", "/runs/c"),
    scheduler_metrics=("eval_loss",),
    lease_epoch=3,
    worker="w",
)
REPORT = Report(
    trials=(
        TrialReport(
            "/runs/a", 30, {"eval_loss": 0.25}, Verdict(kind="pruned", step=30, cause="ood", reason="0.1 < 0.2")
        ),
        TrialReport("/runs/b", 0, {}, None),
    ),
    stopped=False,
    lease_epoch=3,
)


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 what this test wrote itself


@pytest.fixture(scope="module")
def through_ray() -> Iterator[Callable[[Any], Any]]:
    """Send a value to another process and back, as Ray sends arguments and results."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    echo: Any = ray.remote(num_cpus=0)(lambda value: (value, os.getpid()))

    def crossed(value: Any) -> Any:
        other, process = ray.get(echo.remote(value))
        assert process != os.getpid()
        return other

    yield crossed
    ray.shutdown()


@pytest.mark.parametrize(
    "means", ["pickle", pytest.param("ray", marks=pytest.mark.slow)]
)  # every launch does the latter
@pytest.mark.parametrize("value", [REQUEST, REPORT], ids=["request", "report"])
def test_a_value_is_equal_on_the_other_side(
    value: Request | Report, means: str, request: pytest.FixtureRequest
) -> None:
    crossed = through_pickle if means == "pickle" else request.getfixturevalue("through_ray")
    other = crossed(value)
    assert other == value and other is not value
    assert type(other) is type(value)
    for one in dataclasses.fields(value):
        assert getattr(other, one.name) == getattr(value, one.name), one.name
        changed = replace(value, **{one.name: ("another",)})
        assert changed != other, f"{one.name} is not compared"


def test_values_are_frozen() -> None:
    for value in (REQUEST, REPORT, REPORT.trials[0], REQUEST.rules):
        with pytest.raises(FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, ())


def test_no_field_has_the_type_any() -> None:
    def untyped(kind: type) -> list[str]:
        return [
            one.name for one in dataclasses.fields(kind) if {"Any", "object", "dict"} & {*split(r"\W", str(one.type))}
        ]

    for kind in (Request, Report, TrialReport, Rules):
        assert untyped(kind) == []
    planted = dataclasses.make_dataclass("Planted", [("good", "int"), ("bag", "dict[str, Any]"), ("any", "Any")])
    assert untyped(planted) == ["bag", "any"]


# ---------------------------------------------------------------- versions
@pytest.mark.parametrize(("value", "name"), [(REQUEST, "request"), (REPORT, "report")], ids=["request", "report"])
def test_another_version_is_refused(value: Request | Report, name: str) -> None:
    check_version(value)
    other = through_pickle(replace(value, version=PROTOCOL_VERSION + 1))
    versions = f"version {PROTOCOL_VERSION}, but a {name} has version {PROTOCOL_VERSION + 1}"
    with pytest.raises(ProtocolMismatch, match=versions) as refused:
        check_version(other)
    assert isinstance(refused.value, UserError) and "footprint doctor" in (refused.value.hint or "")


# ---------------------------------------------------------------- what is reported
@pytest.fixture
def record(tmp_path: Path) -> Record:
    source = Source(path=tmp_path, sha256="0")
    spec = TrialSpec(
        name="one", base=source, train=source, validation=source, ood=source, placement=Placement(language=1)
    )
    record = Record(tmp_path / "one")
    record.create(spec)
    return record


def request(record: Record, *others: Record) -> Request:
    trials = tuple(str(one.directory) for one in (record, *others))
    return replace(REQUEST, trials=trials, stop_file=str(record.directory.parent / "STOP"))


def test_a_report_says_how_far_the_records_are(record: Record, tmp_path: Path) -> None:
    other = Record(tmp_path / "other")
    other.create(record.spec())
    asked = request(record, other)
    assert report_on(asked) == Report(
        (TrialReport(str(record.directory), 0, {}, None), TrialReport(str(other.directory), 0, {}, None)), False, 3
    )
    record.append(Measurement("eval", 30, {"eval_loss": 0.5}))
    record.append(Measurement("train", 60, {"step_loss": 0.1}))
    record.close(Verdict(kind="completed", step=30))
    [first, second] = report_on(asked).trials
    assert (first.step, first.metrics, str(first.verdict)) == (30, {"eval_loss": 0.5}, "completed")
    assert (second.step, second.verdict) == (0, None)
    assert not report_on(asked).done
    other.close(Verdict(kind="failed", step=0))
    assert report_on(asked).done


def test_a_stop_file_ends_a_request_whose_trials_have_no_verdict(record: Record, tmp_path: Path) -> None:
    (tmp_path / "STOP").touch()
    report = report_on(request(record))
    assert (report.done, report.stopped, report.trials[0].verdict) == (True, True, None)


def test_tune_gets_only_the_report_and_the_metrics_of_its_scheduler() -> None:
    [trial, _] = REPORT.trials
    one = replace(REPORT, trials=(replace(trial, metrics={"eval_loss": 0.25, "chrf": 3.0}),))
    assert tune_result(one, ()) == {"report": one, "done": True}
    assert tune_result(one, ("eval_loss",)) == {"report": one, "done": True, "step": 30, "eval/eval_loss": 0.25}
    assert tune_result(REPORT, ("eval_loss",)) == {"report": REPORT, "done": False}
    empty = replace(REPORT, trials=REPORT.trials[1:])
    assert tune_result(empty, ("eval_loss",)) == {"report": empty, "done": False, "step": 0}

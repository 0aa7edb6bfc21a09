"""Tests scheduler options: misspelt, unmeasured or late ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from sweeps.execution.options import Launch, scheduler_in
from sweeps.execution.schedulers import Asha, Median, check_scheduler, parse_scheduler, stopped_by
from sweeps.execution.storage import AdapterBytes
from sweeps.launch import resume
from sweeps.stage4 import STUDY
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.metrics import METRICS
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec


def spec(language: int, **changes: Any) -> TrialSpec:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    values = {"steps": 120, "eval_every_steps": 30, **changes}
    return TrialSpec(name=f"L{language}", placement=Placement(language=language), **sources, **values)


def test_options_become_values_of_their_types() -> None:
    assert parse_scheduler("", "") is None
    assert parse_scheduler("asha", "") == Asha(metric="eval_loss", grace_period=1, reduction_factor=3.0)
    assert parse_scheduler("asha", "grace_period=30, reduction_factor=4") == Asha(grace_period=30, reduction_factor=4)
    assert parse_scheduler("median", "metric=exact_match,min_samples_required=2") == Median(
        metric="exact_match", min_samples_required=2
    )


@pytest.mark.parametrize(
    ("name", "options", "expected", "hint"),
    [
        ("asha", "grace_perod=30", "`grace_perod` is not an option of scheduler asha", "did you mean `grace_period`?"),
        ("asha", "time_atr=step", "`time_atr` is not an option of scheduler asha", ""),
        ("asha", "min_samples_required=3", "is not an option of scheduler asha", ""),
        ("ahsa", "", "--scheduler must be one of asha, median, but got `ahsa`", "did you mean `asha`?"),
        ("hyperband", "", "--scheduler must be one of", ""),
        ("", "grace_period=30", "--scheduler-options need a --scheduler", "known: asha, median"),
        ("asha", "grace_period", "must be comma-separated KEY=VALUE", "for example metric=eval_loss,grace_period=30"),
        ("asha", "grace_period=30,grace_period=60", "`grace_period` must be given once, but it is repeated",
         "leave out grace_period=30 or grace_period=60"),
        ("asha", "grace_period=0", "`grace_period`: input should be greater than or equal to 1", "the default is 1"),
        ("asha", "grace_period=soon", "`grace_period`", ""),
        ("asha", "reduction_factor=1", "`reduction_factor`", ""),
        ("asha", "metric=eval_los", "a scheduler's metric must be one that every eval measures, but got `eval_los`",
         "did you mean `eval_loss`?"),
        ("asha", "metric=train_seconds", "but got `train_seconds`", ""),
    ],
)  # fmt: skip
def test_options_that_ray_silently_ignores_are_refused(name: str, options: str, expected: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        parse_scheduler(name, options)
    assert expected in error.value.message
    assert hint in (error.value.hint or "")


def test_ray_silently_ignores_such_an_option() -> None:
    from ray.tune import create_scheduler

    assert create_scheduler("async_hyperband", grace_perod=30)._brackets[0]._rungs[-1][0] == 1


@pytest.mark.parametrize(("grace_period", "passes"), [(90, True), (91, False)])
def test_a_scheduler_that_first_looks_at_the_last_eval_is_refused(grace_period: int, passes: bool) -> None:
    specs = [spec(0), spec(1), spec(2)]
    if passes:
        check_scheduler(Asha(grace_period=grace_period), specs, METRICS)
        return
    with pytest.raises(UserError, match="first decides at step 120 of 120"):
        check_scheduler(Asha(grace_period=grace_period), specs, METRICS)


@pytest.mark.parametrize(("scheduler", "arms"), [(Asha(), 2), (Median(), 4)])
def test_a_scheduler_needs_trials_to_compare(scheduler: Asha | Median, arms: int) -> None:
    specs = [spec(language) for language in range(arms + 1)]  # the first is the baseline
    check_scheduler(scheduler, specs, METRICS)
    with pytest.raises(UserError, match=f"needs {arms} or more, but got {arms - 1}"):
        check_scheduler(scheduler, specs[:-1], METRICS)


def test_a_metric_that_this_data_does_not_report_is_refused() -> None:
    with pytest.raises(UserError, match="evals on this data have no `irrelevant_pass`"):
        check_scheduler(Asha(metric="irrelevant_pass"), [spec(1), spec(2)], ["eval_loss", "text_retention"])


def test_the_verdict_names_the_scheduler_and_its_number() -> None:
    verdict = stopped_by(
        Asha(), [Measurement("eval", 30, {"eval_loss": 1.0}), Measurement("eval", 60, {"eval_loss": 2})]
    )
    assert str(verdict) == "pruned(scheduler)"
    assert (verdict.step, verdict.reason) == (
        60,
        "asha stopped it: eval_loss 2 at step 60 fell behind the other trials",
    )


def test_a_misspelt_option_on_the_command_line_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(STUDY, monkeypatch, "--scheduler", "asha", "--scheduler-options", "grace_perod=30") == 2
    assert "did you mean `grace_period`?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_launch_must_name_the_scheduler_it_was_begun_with(
    make_record: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_record(steps=())
    write_json(tmp_path / "stage4" / "study.json", {"steps": 120, **scheduler_in(Launch(scheduler=Asha()))})
    monkeypatch.setattr("sweeps.launch.run_records", lambda *_: None)
    monkeypatch.setattr("sweeps.launch.check_begun", lambda *_: None)  # its base and data are names alone
    monkeypatch.setattr("sweeps.launch.reported_by", lambda _: frozenset(METRICS))
    monkeypatch.setattr("sweeps.launch.family_of", lambda _: family_of(BASE_DIRECTORY))
    monkeypatch.setattr("sweeps.launch.begun_bytes", lambda *_: AdapterBytes(0, 0, 0))
    resume(STUDY, Launch(storage=tmp_path, scheduler=Asha()))
    for other in (None, Asha(grace_period=30), Median()):
        with pytest.raises(UserError, match=r"scheduler: .* -> "):
            resume(STUDY, Launch(storage=tmp_path, scheduler=other))

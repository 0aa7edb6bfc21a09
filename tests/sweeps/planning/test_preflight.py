"""Tests the pre-flight checks: each at its limit, a run that learned nothing, and `--force`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import invoke
from planned_trials import trial
from scanned_rows import row, rows, scan_of

from sweeps.display.plan_table import findings_text
from sweeps.execution.options import Launch
from sweeps.launch import StudyJob
from sweeps.planning import preflight as module
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.forecast import forecast, usable_share
from sweeps.planning.preflight import Preflight, admit, preflight
from sweeps.planning.space import Axes
from sweeps.stage4 import STUDY
from sweeps.study import PREFLIGHT_LIMITS
from trainables.data.scan import Scan
from trainables.errors import UserError
from trainables.guards import GUARDS
from trainables.spec import TrialSpec

FAILING_ROWS = 45_000
FAILING = {"learning_rate": 5e-5, "steps": 500, "batch_rows": 1, "accumulation_steps": 8, "eval_every_steps": 150}
SOUND = {"steps": 100, "batch_rows": 16, "accumulation_steps": 1, "eval_every_steps": 25}


def judged(spec: TrialSpec, train_rows: int = 1000, scan: Scan | None = None) -> dict[str, PreflightFinding]:
    """Return the findings about one trial by their check."""
    scan = scan or replace(scan_of(), train=rows("train", train_rows))
    return {one.check: one for one in preflight(forecast([spec], train_rows), GUARDS, scan).findings}


def test_trials_that_differ_in_their_seed_are_checked_once_and_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, check = [], module.check_trial
    monkeypatch.setattr(module, "check_trial", lambda one, *rest: (checked.append(one), check(one, *rest))[1])
    specs = [trial(**FAILING, name=f"C2-s{seed}", seed=seed) for seed in range(20)]
    specs.append(trial(**FAILING, name="C2-long", max_tokens=4096))
    found = preflight(forecast(specs, FAILING_ROWS), GUARDS, replace(scan_of(), train=rows("train", FAILING_ROWS)))
    assert len(checked) == 2
    assert {one.trials for one in found.findings if one.check == "coverage"} == {tuple(one.name for one in specs)}


# -------------------------------------------------------------------- budget and schedule
def test_a_valid_plan_has_no_finding() -> None:
    assert judged(trial(**SOUND)) == {}


@pytest.mark.parametrize(
    ("steps", "batch_rows", "accumulation_steps", "level", "expected"),
    [
        (500, 1, 8, "refuse", "500 steps of 8 rows see 8.9% of 45,000"),  # the run that learned nothing
        (2000, 2, 16, None, ""),  # approach 1: 142 %
        (5000, 4, 16, None, ""),  # approach 2: 711 %
    ],
)
def test_coverage_of_a_run_that_learned_nothing_and_of_two_that_did(
    steps: int, batch_rows: int, accumulation_steps: int, level: str | None, expected: str
) -> None:
    budget = {"steps": steps, "batch_rows": batch_rows, "accumulation_steps": accumulation_steps}
    finding = judged(trial(**budget, eval_every_steps=100), FAILING_ROWS).get("coverage")
    assert (finding.level if finding else None) == level
    assert expected in (finding.message if finding else "")


@pytest.mark.parametrize(
    ("steps", "level"), [(9, "refuse"), (10, "warn"), (89, "warn"), (90, None), (1000, None), (1001, "warn")]
)
def test_the_edges_of_coverage(steps: int, level: str | None) -> None:
    """A hundred rows a pass of ten steps: below 10 % is refused, below 90 % and above ten passes is reported."""
    finding = judged(trial(**SOUND | {"steps": steps, "batch_rows": 10}), 1000).get("coverage")
    assert (finding.level if finding else None) == level


def test_one_pass_is_what_the_hint_says() -> None:
    hint = judged(trial(**SOUND | {"steps": 10}), 1000)["coverage"].hint
    assert hint == "one pass takes 63 steps: --epochs 1"
    assert "coverage" not in judged(trial(**SOUND | {"steps": 63}), 1000)


def test_a_cosine_without_a_floor_ends_at_zero() -> None:
    spec = trial(**FAILING, warmup_ratio=0.0, min_rate_ratio=0.0)
    message = judged(spec, FAILING_ROWS)["usable_rate"].message
    assert "79.6% do; the rate of the last of 500 steps is 5e-10, and the peak is 5e-05" in message
    floored = judged(spec.model_copy(update={"min_rate_ratio": 0.1}), FAILING_ROWS)
    assert "usable_rate" not in floored


def test_the_share_of_usable_steps_is_that_of_the_cosine() -> None:
    """The cosine lies above one half for half its length, above three quarters for a third."""
    spec = trial(steps=6000, warmup_ratio=0.0, min_rate_ratio=0.0)
    assert usable_share(spec, 0.5) == pytest.approx(1 / 2, abs=1e-3)
    assert usable_share(spec, 0.75) == pytest.approx(1 / 3, abs=1e-3)
    assert usable_share(spec.model_copy(update={"warmup_ratio": 0.5}), 0.5) == pytest.approx(1 / 2, abs=1e-3)


@pytest.mark.parametrize(
    ("warmup_ratio", "level"), [(0.25, None), (0.26, "warn"), (0.5, "warn"), (0.51, "refuse"), (1.0, "refuse")]
)
def test_the_edges_of_warm_up(warmup_ratio: float, level: str | None) -> None:
    finding = judged(trial(**SOUND, warmup_ratio=warmup_ratio)).get("warmup")
    assert (finding.level if finding else None) == level
    assert not finding or f"takes {round(100 * warmup_ratio)} of 100" in finding.message


def test_a_schedule_that_hardly_trains_is_refused() -> None:
    finding = judged(trial(**SOUND, warmup_ratio=1.0), 1000)
    assert finding["warmup"].level == "refuse"
    limits = replace(PREFLIGHT_LIMITS, usable_rate_ratio=0.9)
    strict = preflight(forecast([trial(**SOUND, min_rate_ratio=0.0)], 1000), GUARDS, scan_of(), limits)
    assert {one.check: one.level for one in strict.findings} == {"usable_rate": "refuse"}


@pytest.mark.parametrize(("accumulation_steps", "warned"), [(15, True), (16, False)])
def test_a_small_step_is_reported(accumulation_steps: int, warned: bool) -> None:
    found = judged(trial(**SOUND | {"batch_rows": 1, "accumulation_steps": accumulation_steps}))
    assert ("effective_batch" in found) is warned


def test_too_few_evals_for_a_guard_are_refused() -> None:
    assert "evals" not in judged(trial(**SOUND | {"eval_every_steps": 49}))
    finding = judged(trial(**SOUND | {"eval_every_steps": 50}))["evals"]
    assert finding.level == "refuse"
    assert "100 steps with one every 50 have 2: the guards on generalization_gap could never stop it" in finding.message
    assert finding.hint == "--eval-every 49, or more steps"
    assert judged(trial(**SOUND | {"steps": 2}))["evals"].hint == "train at least 3 steps"


def test_the_baseline_is_not_checked() -> None:
    assert judged(trial(**FAILING).baseline(), 1000) == {}


def test_trials_that_share_a_finding_are_named_once() -> None:
    specs = [
        trial(name="A1", **SOUND),
        trial(name="A2", **SOUND | {"eval_every_steps": 50}),
        trial(name="A3", **SOUND | {"eval_every_steps": 50}),
    ]
    [finding] = preflight(forecast(specs, 1000), GUARDS, scan_of()).findings
    assert (finding.check, finding.trials) == ("evals", ("A2", "A3"))
    assert not finding.concerns("A1") and finding.concerns("A2")


def test_findings_on_the_data_apply_to_every_trial() -> None:
    [finding] = preflight(forecast([trial(**SOUND)], 1000), GUARDS, scan_of(train=[row("cut", problem="cut")])).findings
    assert finding.concerns("A0") and finding.concerns("C2")


def test_a_row_longer_than_max_tokens_is_refused() -> None:
    spec = trial(**SOUND, max_tokens=41)
    assert judged(spec, scan=scan_of(train=[row("fits", tokens=41)])) == {}
    finding = judged(spec, scan=scan_of(train=[row("long", tokens=42)]))["max_tokens"]
    assert finding.level == "refuse"
    assert "must have at most max_tokens = 41 tokens, but 1 of 1,000 (long) have more" in finding.message
    assert "raise max_tokens to 42" in finding.hint


def test_the_default_study_is_not_refused(tmp_path: Path) -> None:
    """The miniature's own rows and settings, through the real scan."""
    found = StudyJob(STUDY, Axes(), Launch()).plan(tmp_path / "data").preflight
    assert found.refusals == ()
    train = found.data["train"]
    assert (train.rows, train.pictures, train.unencodable.count, train.contradictory.count) == (960, 960, 0, 0)
    assert 0.1 < train.supervised_share < 0.5


# -------------------------------------------------------------------- refusing, and overriding
REFUSAL = PreflightFinding("refuse", "coverage", "training should see more", "--epochs 1")
WARNING = PreflightFinding("warn", "warmup", "warm-up is long", "shorten it")


def test_every_refusal_is_in_the_one_error() -> None:
    other = replace(REFUSAL, check="evals", message="a guard must see 3 evals")
    with pytest.raises(UserError) as caught:
        admit(Preflight({}, (REFUSAL, other, WARNING)), force=False)
    for words in (
        "2 preflight checks failed; nothing was run",
        "coverage: training should see more\n    --epochs 1",
        "evals: a guard must see",
    ):
        assert words in caught.value.message
    assert "warm-up" not in caught.value.message
    assert "--force" in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_force_returns_what_it_overrides() -> None:
    assert admit(Preflight({}, (REFUSAL, WARNING)), force=True) == (REFUSAL,)
    assert admit(Preflight({}, (WARNING,)), force=False) == ()


@pytest.fixture
def stage4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call stage4 in a new directory on valid data; records are created, nothing runs."""
    monkeypatch.setattr("sweeps.planning.plan.scan_once", lambda *_: replace(scan_of(), train=rows("train", 960)))
    monkeypatch.setattr("sweeps.launch.run_records", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: invoke(STUDY, monkeypatch, *arguments)


def test_many_trials_are_counted_not_listed() -> None:
    shown = str(findings_text([replace(WARNING, trials=("A1", "A2", "B1", "B2", "C1", "C2"))]))
    assert shown == "warning: warmup: warm-up is long (A1, A2, B1, B2 and 2 more)\n    shorten it\n"
    assert "(" not in str(findings_text([REFUSAL]))


SHORT = ("--only", "A1", "--steps", "5", "--eval-every", "1")


def test_a_refused_launch_leaves_nothing(
    stage4: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage4(*SHORT) == 2
    assert "5 steps of 16 rows see 8.3% of 960" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "stage4").exists()


@pytest.mark.parametrize(("force", "code"), [((), 2), (("--force",), 0)])
def test_a_dry_run_refuses_as_the_launch_would(stage4: Callable[..., int], force: tuple[str, ...], code: int) -> None:
    assert stage4(*SHORT, "--dry-run", *force) == code


def test_overridden_refusals_are_kept_with_their_trials(
    stage4: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage4(*SHORT, "--force") == 0
    assert "overridden: coverage" in capsys.readouterr().out
    experiment = tmp_path / "runs" / "stage4"
    kept = json.loads((experiment / "preflight.json").read_text())
    assert kept["overridden"] is True
    assert [one["check"] for one in kept["findings"] if one["level"] == "refuse"] == ["coverage"]
    assert kept["data"]["train"]["histogram"] == {"64": 960}
    [overridden] = experiment.rglob("overridden.json")
    assert overridden.parent.name.startswith("A1-"), "the baseline trains nothing"
    assert [one["check"] for one in json.loads(overridden.read_text())] == ["coverage"]


def test_a_launch_without_refusal_has_nothing_overridden(stage4: Callable[..., int], tmp_path: Path) -> None:
    assert stage4("--force") == 0
    experiment = tmp_path / "runs" / "stage4"
    assert json.loads((experiment / "preflight.json").read_text())["overridden"] is False
    assert list(experiment.rglob("overridden.json")) == []

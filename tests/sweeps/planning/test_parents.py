"""Tests arms that continue an adapter, arms from winners, and arms that a plan refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from saved_adapters import saved
from scanned_rows import scan_of

from sweeps.coverage import STUDY as COVERAGE
from sweeps.narrow import STUDY as NARROW
from sweeps.planning.forecast import forecast
from sweeps.planning.parents import continuing
from sweeps.planning.sources import Sources, gather
from sweeps.planning.space import Axes, expand
from sweeps.planning.trial_checks import check_trial
from sweeps.planning.winners import with_winners
from sweeps.stage4 import STUDY
from sweeps.study import PREFLIGHT_LIMITS, Arm, Study
from sweeps.tracking.mlflow_fields import lineage_tags
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.record import Record
from trainables.spec import TrialSpec


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return gather(None, None, None, None, tmp_path_factory.mktemp("data") / "data")


@pytest.fixture
def arms(sources: Sources) -> Callable[..., list[TrialSpec]]:
    return lambda *only: expand(STUDY, Axes(only=only), sources)


def named(specs: list[TrialSpec]) -> dict[str, TrialSpec]:
    return {spec.name: spec for spec in specs}


# ---------------------------------------------------------------- an adapter to go on from
def test_an_arm_equals_or_extends_the_adapter_it_continues(arms: Callable[..., Any], tmp_path: Path) -> None:
    best = saved(tmp_path / "best", named(arms("C1"))["C1"])
    found = named(continuing(arms("C1", "C2", "D3"), best, None))
    assert {name: spec.continuation for name, spec in found.items() if name != "A0"} == {
        "C1": "same", "C2": "extended", "D3": "extended",
    }  # fmt: skip
    assert all(spec.init_from and spec.init_from.path == best for name, spec in found.items() if name != "A0")
    assert found["A0"].init_from is None


def test_the_eval_before_the_first_step_is_counted(arms: Callable[..., Any], tmp_path: Path) -> None:
    best = saved(tmp_path / "best", named(arms("C1"))["C1"])
    fresh = {one.spec.name: one.evals for one in forecast(arms("C1"), 960)}
    assert {one.spec.name: one.evals for one in forecast(continuing(arms("C1"), best, None), 960)} == {
        "A0": fresh["A0"], "C1": fresh["C1"] + 1,
    }  # fmt: skip


def test_arms_that_do_not_contain_it_are_refused_by_name(
    arms: Callable[..., Any], sources: Sources, tmp_path: Path
) -> None:
    def ranked(*only: str) -> list[TrialSpec]:
        return expand(STUDY, Axes(only=only, ranks=(8, 16)), sources)

    best = saved(tmp_path / "best", named(arms("C2"))["C2"])
    with pytest.raises(UserError) as error:
        continuing(arms("A1", "B3", "C2", "C3"), best, None)
    assert "must contain all 30 modules" in error.value.message
    assert error.value.message.endswith("but A1, B3 do not")
    assert error.value.hint == "--only C2,C3"
    with pytest.raises(UserError) as error:
        continuing(ranked("A1", "C2", "C3"), best, None)
    assert error.value.hint == "--only C2,C3", "what it names, --only takes"


def test_a_restart_adds_a_second_trial_to_each_arm(arms: Callable[..., Any], tmp_path: Path) -> None:
    best = saved(tmp_path / "stage3", named(arms("C2"))["C2"])
    earlier = saved(tmp_path / "stage2", named(arms("A1"))["A1"])
    specs = continuing(arms("C2"), best, earlier)
    assert [spec.name for spec in specs] == ["A0", "C2", "C2-restart"]
    assert [spec.init_from.path.name for spec in specs[1:] if spec.init_from] == ["stage3", "stage2"]
    assert len({spec.trial_id for spec in specs}) == 3
    assert [spec.arm for spec in specs] == ["A0", "C2", "C2-restart"], "analysis must tell them apart"
    with pytest.raises(UserError, match="--restart-from must be another adapter than --init-from"):
        continuing(arms("C2"), best, best)
    alone = continuing(arms("C2"), None, earlier)
    assert [spec.init_from is None for spec in alone] == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--init-from", "{parent}"), "but A1, A2, B1, B2, B3, C1, D1 do not"),
        (
            ("--init-from", "{parent}", "--only", "C2", "--rank", "8"),
            "`r` must equal this trial's value 8, but it is 16",
        ),
        (("--restart-from", "{parent}/none", "--only", "C2"), "an adapter to continue must be a directory"),
    ],
)
def test_the_command_line_refuses_before_anything_runs(
    arguments: tuple[str, ...], expected: str, arms: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    parent = saved(tmp_path / "parent", named(arms("C2"))["C2"])
    code = invoke(STUDY, monkeypatch, *(one.format(parent=parent) for one in arguments))
    assert (code, expected in capsys.readouterr().err) == (2, True)
    assert not (tmp_path / "runs" / "stage4").exists()


# ---------------------------------------------------------------- winners
def winners(directory: Path, *placements: tuple[str, int, int]) -> Path:
    path = directory / "winners.json"
    listed = [{"name": name, "language": language, "vision": vision} for name, language, vision in placements]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"experiment": "stage4", "winners": listed}))
    return path


def placed(study: Study) -> dict[str, tuple[int, int]]:
    return {arm.name: (arm.language, arm.vision) for arm in study.arms}


@pytest.mark.parametrize("arm", [arm for arm in STUDY.arms if arm.language > 1], ids=lambda arm: arm.name)
def test_every_winner_of_stage_4_is_tried_with_one_language_layer(tmp_path: Path, arm: Arm) -> None:
    study = with_winners(NARROW, winners(tmp_path, (arm.name, arm.language, arm.vision)), ())
    assert (1, arm.vision) in placed(study).values()


def test_winners_become_the_arms_with_one_language_layer_beside_them(tmp_path: Path) -> None:
    study = with_winners(NARROW, winners(tmp_path, ("C2", 2, 4), ("B3", 0, 6), ("C2", 2, 4)), ())
    assert placed(study) == {"A0": (0, 0), "C2": (2, 4), "B3": (0, 6), "E2": (1, 4)}
    assert placed(with_winners(STUDY, winners(tmp_path, ("C3", 2, 6)), ())) == {"A0": (0, 0), "C3": (2, 6)}


def test_narrow_reads_winners_json_and_reports_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        with_winners(NARROW, None, ())
    assert "frontier/stage4/winners.json does not exist" in error.value.message
    assert "footprint pareto --experiment stage4" in (error.value.hint or "")
    winners(tmp_path / "frontier" / "stage4", ("A1", 2, 0))
    assert placed(with_winners(NARROW, None, ())) == {"A0": (0, 0), "A1": (2, 0), "E0": (1, 0)}
    assert with_winners(NARROW, None, ("C2",)) is NARROW
    assert with_winners(STUDY, None, ()) is STUDY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "a file must hold the JSON that was written"),
        ("[]", "`winners` must name a placement, but it is None"),
        ('{"winners": []}', "`winners` must name a placement, but it is \\[\\]"),
        (
            '{"winners": [{"name": "C2", "language": "2", "vision": 4}]}',
            r"`winners\[0\]` must have a `name` and counts",
        ),
        ('{"winners": [{"name": "A0", "language": 0, "vision": 0}]}', r"`winners\[0\]` must have"),
    ],
)
def test_a_broken_file_of_winners_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "winners.json"
    path.write_text(text)
    with pytest.raises(UserError, match=expected) as error:
        with_winners(NARROW, path, ())
    assert str(path) in error.value.message and error.value.exit_code == 2


def test_narrow_takes_three_ranks_and_three_rates_of_the_arms_own(sources: Sources) -> None:
    specs = [spec for spec in expand(NARROW, Axes(only=("C2",)), sources) if not spec.placement.is_baseline]
    own = NARROW.miniature["learning_rate"]
    assert {(spec.rank, spec.learning_rate / own) for spec in specs} == {
        (rank, factor) for rank in (8, 16, 32) for factor in (0.5, 1.0, 2.0)
    }
    assert {spec.alpha / spec.rank for spec in specs} == {2.0}
    fixed = expand(NARROW, Axes(only=("C2",), ranks=(16,), learning_rates=(1e-3,)), sources)
    assert [spec.learning_rate for spec in fixed if not spec.placement.is_baseline] == [1e-3]


# ---------------------------------------------------------------- coverage
def test_the_run_that_learned_nothing_is_left_out_unless_it_is_asked_for(sources: Sources) -> None:
    usual = named(expand(COVERAGE, Axes(), sources))
    assert set(usual) == {"A0", "fix1", "fix2", "fix1grow", "fix1stable"}
    failing = named(expand(COVERAGE, Axes(only=("failing",)), sources))["failing"]
    assert failing.rows_before(failing.steps) / sources.train_rows == pytest.approx(0.089, abs=0.005)
    assert (failing.min_rate_ratio, failing.effective_rows) == (0.0, 8)


def test_its_refusal_names_the_coverage_in_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(COVERAGE, monkeypatch, "--only", "failing", "--dry-run") == 2
    assert "training must see 10% of the rows" in capsys.readouterr().err


def test_budgets_are_passes_over_the_data(sources: Sources) -> None:
    from dataclasses import replace

    large = replace(sources, train_rows=45_000, is_miniature=False)
    steps = {spec.name: spec.steps for spec in expand(COVERAGE, Axes(only=("failing", "fix1", "fix2")), large)}
    assert {name: steps[name] for name in ("failing", "fix1", "fix2")} == {"failing": 500, "fix1": 2000, "fix2": 5000}
    specs = named(expand(COVERAGE, Axes(), large))
    assert [(specs[n].effective_rows, specs[n].learning_rate) for n in ("fix1", "fix2")] == [(32, 1e-4), (64, 2e-4)]
    assert specs["fix1grow"].rows_at(0) < specs["fix1grow"].effective_rows
    assert specs["fix1stable"].schedule == "stable"


# ---------------------------------------------------------------- what the plan and MLflow say of a parent
def test_the_plan_reports_an_unknown_base_of_the_parent(
    arms: Callable[..., Any], sources: Sources, tmp_path: Path
) -> None:
    best = saved(tmp_path / "best", named(arms("C2"))["C2"])
    [unknown, continued] = forecast(continuing(arms("C2"), best, None), sources.train_rows)
    assert (unknown.parent_base, continued.parent_base) == (None, "unknown")
    found = {one.check: one for one in check_trial(continued, (), scan_of(), PREFLIGHT_LIMITS)}
    assert found["parent_base"].level == "warn" and str(best) in found["parent_base"].message
    write_json(best / "provenance.json", {"spec": {"base": {"sha256": sources.base.sha256}}})
    [_, known] = forecast(continuing(arms("C2"), best, None), sources.train_rows)
    assert known.parent_base == "same, by sha256"
    assert "parent_base" not in {one.check for one in check_trial(known, (), scan_of(), PREFLIGHT_LIMITS)}


def test_the_tags_of_a_continued_trial_name_its_ancestors(arms: Callable[..., Any], tmp_path: Path) -> None:
    best = saved(tmp_path / "best", named(arms("C2"))["C2"])
    spec = named(continuing(arms("C2"), best, None))["C2"]
    record = Record(tmp_path / "C2")
    record.create(spec)
    assert spec.init_from is not None
    planned = {
        "footprint.parent_directory": str(best),
        "footprint.parent_sha256": spec.init_from.sha256,
        "footprint.continuation": "same",
        "footprint.optimizer": "fresh",
    }
    assert lineage_tags(record) == planned
    parent = {"directory": str(best), "sha256": "aa", "trial": "S2", "trial_id": "2222", "step": 80,
              "learning_rate": 3.5e-5, "vision_learning_rate": 1e-4, "steps": 80, "eval_loss": 0.4}  # fmt: skip
    elsewhere = {"directory": "/elsewhere", "sha256": "bb"}
    kept = {"continuation": "same", "optimizer": "fresh", "base": "same, by sha256", "new_modules": 0}
    write_json(record.directory / "lineage.json", {**kept, "ancestors": [parent, elsewhere]})
    assert lineage_tags(record) == planned | {
        "footprint.parent": "2222",
        "footprint.parent_name": "S2",
        "footprint.parent_step": "80",
        "footprint.parent_base": "same, by sha256",
        "footprint.ancestors": "2222",
        "footprint.ancestor_sha256": "aa,bb",
        "footprint.rates": f"{spec.learning_rate:g},3.5e-05",
    }
    begun = Record(tmp_path / "C2-anew")
    begun.create(named(arms("C2"))["C2"])
    assert lineage_tags(begun) == {}

"""Tests records and the frontier as pandas frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trial_records import keep_best, running_record

from analysis.frames import eval_frame, records_of, trial_frame
from trainables.errors import UserError
from trainables.verdict import Verdict


def test_a_trial_is_a_row_with_its_settings_verdict_and_best_eval(tmp_path: Path) -> None:
    record, waiting = running_record(tmp_path), running_record(tmp_path, "A1-L2-V0", vision=0, arm="A1", steps=())
    keep_best(record, 60)
    record.close(Verdict(kind="completed", step=60))
    found = trial_frame(records_of("stage4", tmp_path)).set_index("name")
    assert list(found.index) == ["A1-L2-V0", "C2-L2-V2"]
    row = found.loc["C2-L2-V2"]
    assert (row["arm"], row["language"], row["vision"], row["rank"], row["verdict"]) == ("C2", 2, 2, 16, "completed")
    assert (row["best.step"], row["best.eval_loss"]) == (60, 0.06)
    assert found.loc["A1-L2-V0", ["verdict", "best.step"]].isna().all()
    assert row["id"] == record.spec().trial_id != waiting.spec().trial_id


def test_an_eval_is_a_row(tmp_path: Path) -> None:
    found = eval_frame([running_record(tmp_path)])
    assert set(found["name"]) == {"C2-L2-V2"} == set(trial_frame([running_record(tmp_path / "again")])["name"])
    assert list(found["step"]) == [30, 60] and list(found["eval_loss"]) == [0.03, 0.06]


def test_an_experiment_without_a_trial_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trial"):
        records_of("none", tmp_path)


def test_importing_the_packages_loads_no_library() -> None:
    code = "import sys, sweeps, analysis; print(*{'torch', 'ray', 'pandas', 'mlflow', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_names_of_the_packages_are_those_of_their_modules() -> None:
    import analysis
    import sweeps
    from sweeps.launch import run
    from sweeps.study import Study

    assert sweeps.run is run and sweeps.Study is Study and analysis.trial_frame is trial_frame
    for package in (sweeps, analysis):
        assert all(hasattr(package, name) for name in package.__all__)
        with pytest.raises(AttributeError, match="no_such"):
            _ = package.no_such

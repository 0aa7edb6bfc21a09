"""Runs real sweeps on one storage: the second one's baseline is that of the first, unless something has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables.known_baselines import measured_by
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.record import Record, records_under
from trainables.record_check import check_record

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=cwd, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def sweep(root: Path, name: str, *more: str) -> tuple[Record, Record, str]:
    """Run the baseline and one arm; return their records, and what was printed."""
    data = root / "rows"
    files = ["--base", str(BASE_DIRECTORY), "--train", str(data / "train.jsonl"), "--val",
             str(data / "validation.jsonl"), "--ood", str(data / "ood.jsonl")]  # fmt: skip
    text = run("sweeps.stage4", "--only", "A1", "--steps", "2", "--eval-every", "2", "--force", "--experiment", name,
               *files, *more, cwd=root)  # fmt: skip
    baseline, arm = records_under(root / "runs" / name / "trials")
    return baseline, arm, text


def pareto(root: Path, name: str) -> dict[str, Any]:
    printed = run("analysis.cli", "pareto", "--experiment", name, "--format", "json", cwd=root)
    return json.loads(printed)


def metrics(record: Record) -> list[Any]:
    return [(one.kind, one.step, one.metrics, one.rows, one.reserve) for one in record.measurements()]


def without_ids(found: Any) -> Any:
    """Return a result of `analysis pareto` without what names its trials and how long they took."""
    if isinstance(found, dict):
        apart = ("experiment", "run_id", "run_ids", "started_ms", "record", "artifact_uri", "footnotes", "directory")
        return {key: without_ids(value) for key, value in found.items() if key not in apart and "seconds" not in key}
    return [without_ids(one) for one in found] if isinstance(found, list) else found


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_second_launch_reuses_the_baseline_and_a_changed_row_or_an_option_measures_it(tmp_path: Path) -> None:
    datasets.write(tmp_path / "rows", 0)
    first, arm, text = sweep(tmp_path, "first")
    assert "is not measured again" not in text and measured_by(first) is None
    second, same_arm, text = sweep(tmp_path, "second")
    source = measured_by(second)
    assert source is not None and (source.experiment, source.trial) == ("first", first.name)
    assert f"A0 is not measured again: its results are those of {source}" in text
    assert metrics(second) == metrics(first) and second.samples(0) == first.samples(0)
    check_record(second)
    assert [one.metrics for one in same_arm.evals()] == [one.metrics for one in arm.evals()]
    ours, theirs = pareto(tmp_path, "second"), pareto(tmp_path, "first")
    assert without_ids(ours) == without_ids(theirs)
    assert ours["footnotes"][len(theirs["footnotes"]) :] == [f"A0 was measured by {source}."]

    fresh, _, text = sweep(tmp_path, "fresh", "--fresh-baseline")
    assert measured_by(fresh) is None and "is not measured again" not in text
    assert fresh.evals()[0].metrics == first.evals()[0].metrics, "the same base on the same rows"

    rows = tmp_path / "rows" / "ood.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
    rows.write_text("".join(lines[:-1]), encoding="utf-8")
    changed, _, text = sweep(tmp_path, "changed")
    assert measured_by(changed) is None and "is not measured again" not in text
    assert changed.name != first.name

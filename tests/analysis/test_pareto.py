"""Tests `analysis pareto` as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.cli import main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "mlflow",
    "pandas",
    "matplotlib",
    "scipy",
    "numpy",
    "moocore",
    "jinja2",
    "torch",
    "ray",
    "sweeps",
    "sqlalchemy",
)


@pytest.fixture
def pareto(matrix, tmp_path, monkeypatch, capsys):
    """Run the command on the matrix in an empty directory; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", matrix.uri)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["pareto", *arguments])
        output = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), output.out, output.err

    return run


def test_the_report_names_the_frontier_and_why_each_other_placement_is_not_on_it(pareto, matrix, tmp_path):
    code, out, err = pareto("--experiment", "stage4")
    assert code == 0
    output, others = out.split("not on the frontier")
    assert [line.split()[1] for line in output.splitlines() if line.startswith("●")] == ["C2", "C1", "B2"]
    for part in (
        "dominated by C2; not separable from C2",
        "pruned(irrelevant_pass): irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)",
        "pruned(irrelevant_pass) in 1 of 2 seeds",
        "no eval met the constraint",
        "running",
        "Ship C2 L2·V4",
        "What is not known",
        "frontier/stage4/pareto.html",
    ):
        assert part in others
    files = ["pareto.csv", "pareto.html", "pareto.png", "winners.json"]
    assert sorted(path.name for path in (tmp_path / "frontier/stage4").iterdir()) == files
    logged = [artifact.path for artifact in matrix.client.list_artifacts(matrix.launch_id, "frontier")]
    assert sorted(logged) == [f"frontier/{name}" for name in files]
    assert matrix.launch_id in err


def test_a_degraded_or_forced_trial_is_marked_with_a_footnote_everywhere(pareto, tmp_path):
    code, out, _ = pareto("--experiment", "stage4")
    _, markdown, _ = pareto("--experiment", "stage4", "--format", "markdown")
    page = (tmp_path / "frontier/stage4/pareto.html").read_text(encoding="utf-8")
    notes = (
        "† degraded, a health check found a problem: gradient_spikes in C2 (1 of 3 seeds).",
        "‡ started with --force although the pre-flight refused it: coverage in C1; usable_rate in C1.",
    )
    assert code == 0
    for text in (out, markdown, page):
        assert all(part in text for part in ("C2 L2·V4†", "C1 L2·V2‡", "1 optimal, 2 minimum", *notes))
    _, table, _ = pareto("--experiment", "stage4", "--format", "csv")
    labels = {row["placement"]: (row["degraded"], row["overridden"]) for row in csv.DictReader(io.StringIO(table))}
    assert (labels["C2"], labels["C1"]) == (("gradient_spikes", ""), ("", "coverage usable_rate"))


def test_json_is_all_of_stdout(pareto, tmp_path):
    code, out, err = pareto("--experiment", "stage4", "--format", "json", "--out", str(tmp_path / "here"))
    body = json.loads(out)
    assert code == 0
    assert body["recommended"] == "C2"
    stopped = next(one for one in body["placements"] if one["placement"] == "D1")
    assert [trial["verdict"] for trial in stopped["trials"]] == ["completed", "pruned(irrelevant_pass)"]
    assert "here/pareto.html" in err
    (forced,) = next(one["trials"] for one in body["placements"] if one["placement"] == "C1")
    assert (forced["criteria"], forced["overridden"]) == ("minimum", ["coverage", "usable_rate"])
    assert len(body["footnotes"]) == 2


def test_csv_has_a_row_per_placement_and_equals_the_file(pareto, tmp_path):
    _, out, _ = pareto("--experiment", "stage4", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 12
    assert (rows[0]["placement"], rows[0]["seeds"], rows[0]["exact_match_maximum"]) == ("C2", "3", "0.95")
    assert out == (tmp_path / "frontier/stage4/pareto.csv").read_text()


def test_markdown_is_a_table(pareto):
    _, out, _ = pareto("--experiment", "stage4", "--format", "markdown")
    assert out.startswith("| placement | standing |")
    assert out.count("\n| ") == 13


def test_without_candidates_the_table_has_no_column_for_them(pareto):
    """These runs keep no rows, so that nothing names the eval that stands for a placement."""
    _, out, _ = pareto("--experiment", "stage4", "--format", "markdown")
    assert "candidate" not in out.partition("\n")[0]


def test_other_objectives_may_be_named(pareto):
    _, out, _ = pareto("--experiment", "stage4", "--objective", "adapter_parameters:lower", "--format", "json")
    on_it = {one["placement"] for one in json.loads(out)["placements"] if one["standing"] == "frontier"}
    assert on_it == {"C2", "C1", "B2", "B1"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--experiment", "stage5"], "hint: did you mean `stage4`?"),
        (["--experiment", "stage4", "--y", "exact_mach"], "hint: did you mean `exact_match`?"),
        (["--experiment", "stage4", "--objective", "exact_match=lower"], "--objective"),
        (["--experiment", "stage4", "--objective", "eval_loss:down"], "NAME:lower"),
        (["--experiment", "stage4", "--x", "blindness"], "no completed trial"),
        (["--experiment", "Default"], "no verdict"),
        (["--experiment", "stage4", "--tracking-uri", "sqlite:///absent.db"], "there is no file"),
        (["--experiment", "stage4", "--tracking-uri", "./mlruns"], "must answer"),
        (["--experiment", "stage4", "--format", "yaml"], "yaml"),
        ([], "--experiment"),
    ],
)
def test_bad_input_exits_2_with_a_hint(pareto, tmp_path, arguments, expected):
    code, out, err = pareto(*arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_file_is_refused(pareto, tmp_path):
    (tmp_path / "taken").write_text("")
    code, _, err = pareto("--experiment", "stage4", "--out", "taken")
    assert code == 2
    assert "--out must be a directory" in err


def test_a_store_that_refuses_artifacts_does_not_fail_the_command(pareto, monkeypatch):
    from mlflow import MlflowClient

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    code, out, err = pareto("--experiment", "stage4")
    assert code == 0
    assert "Ship C2" in out
    assert "not logged to MLflow" in err and "read-only" in err


# ------------------------------------------------------------------- what is imported
def loaded_after(statement: str) -> set[str]:
    probe = f"import sys\n{statement}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment)
    return set(eval(done.stdout.splitlines()[-1]))  # noqa: S307


def test_help_loads_nothing_heavy():
    run = "from analysis.cli import main\ntry: main(['pareto', '--help'])\nexcept SystemExit: pass"
    assert loaded_after(run) == set()


def test_a_planted_heavy_import_is_detected():
    assert "numpy" in loaded_after("import analysis.uncertainty")


def test_no_file_of_the_analysis_imports_training_code():
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "analysis").rglob("*.py"))
    modules = sorted(".".join(file.parts) for file in files if file.name != "__init__")
    assert len(modules) >= 10
    imports = "\n".join(f"import {name}" for name in modules)
    assert loaded_after(imports) <= {"numpy"}

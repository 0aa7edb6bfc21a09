"""Tests `analysis runs` as a user types it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ended import Ended, ended_by

from analysis.cli import main
from analysis.objectives import frontier_objectives
from analysis.runs_table import run_lines
from trainables.errors import ExitCode

Run = Callable[..., Ended]


@pytest.fixture
def run(matrix: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", matrix.uri)

    def typed(*words: str) -> Ended:
        named = () if "--experiment" in words else ("--experiment", "stage4")
        return ended_by(main, "analysis", "runs", *named, *words)

    return typed


def test_every_run_is_a_line_with_how_it_ended_and_its_values(run: Run) -> None:
    body = json.loads(run("--format", "json").stdout)
    assert (body["fit"], body["generality"]) == ("exact_match", "irrelevant_pass")
    runs = {one["trial"]: one for one in body["runs"]}
    assert any(name.startswith("A0") for name in runs) and len({one["run_id"] for one in body["runs"]}) == 17
    c2 = next(one for name, one in runs.items() if name.startswith("C2"))
    assert c2["where"].startswith("L") and c2["status"] and c2["run_id"]
    assert c2["best_step"] is None or 0 <= c2["best_fit"] <= 1
    assert 0 <= c2["last_generality"] <= 1


def test_best_and_last_are_told_apart_and_what_was_not_measured_is_none(make_trial, make_experiment) -> None:
    lost = make_trial("C2-0", last={"exact_match": 0.8, "irrelevant_pass": 0.7},
                      best={"exact_match": 0.5, "irrelevant_pass": 0.95})  # fmt: skip
    never = make_trial("D1-0", last={"exact_match": float("nan")}, best={})
    generality, fit = frontier_objectives("irrelevant_pass", "exact_match", ())
    first, second = run_lines(make_experiment(lost, never), fit, generality)
    assert (first.best_fit, first.best_generality, first.last_fit, first.last_generality) == (0.5, 0.95, 0.8, 0.7)
    assert (second.best_fit, second.best_generality, second.last_fit, second.last_generality) == (None,) * 4


def test_csv_and_table_have_the_same_runs(run: Run) -> None:
    body = json.loads(run("--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv").stdout)))
    assert [row["run_id"] for row in rows] == [one["run_id"] for one in body["runs"]]
    assert float(rows[-1]["last_exact_match"]) == body["runs"][-1]["last_fit"]
    table = run().stdout
    assert all(one["trial"] in table for one in body["runs"])
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize("words", [("--experiment", "stage5"), ("--tracking-uri", "sqlite:///none.db")])
def test_an_unknown_experiment_or_store_exits_2(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == ExitCode.BAD_INPUT

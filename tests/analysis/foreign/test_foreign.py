"""Tests results that were not made here: files in the shape of PEFT's public comparison of methods, and MLflow runs."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.cli import main
from analysis.foreign.columns import parse_map
from analysis.foreign.results_file import read_results_file
from analysis.foreign.runs import read_foreign_runs
from analysis.frontier import FrontierInfo, frontier_info
from trainables.errors import UserError

# the columns of PEFT's table; the values are made up
COLUMNS = (
    "experiment_name", "model_id", "train_config", "peft_type", "peft_config", "accelerator_memory_reserved_avg",
    "accelerator_memory_max", "accelerator_memory_reserved_99th", "total_time", "train_time", "file_size",
    "num_trainable_params", "train_loss", "test_accuracy", "train_samples", "train_total_tokens", "peft_version",
)  # fmt: skip
MAP = (
    "x=accelerator_memory_max:lower",
    "y=test_accuracy:higher",
    "label=experiment_name",
    "group=peft_type",
)
NESTED = (
    "x=train_info.accelerator_memory_max:lower",
    "y=train_info.metrics.-1.test accuracy:higher",
    "label=run_info.experiment_name",
)


def made_up(count: int = 63) -> list[dict[str, str]]:
    """Return a table of results whose accuracy rises with memory, with much noise."""
    draw, rows = random.Random(5), []
    for number in range(count):
        memory = draw.uniform(9e9, 23e9)
        row = dict.fromkeys(COLUMNS, "1") | {
            "experiment_name": f"lora/llama-3.2-3B-rank{number}",
            "peft_type": draw.choice(("LORA", "IA3", "OFT")),
            "accelerator_memory_max": f"{memory:.0f}",
            "test_accuracy": f"{0.3 + memory / 1e11 + draw.uniform(0, 0.2):.6f}",
        }
        rows.append(row)
    return rows


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def published(row: dict[str, str]) -> dict[str, object]:
    """Return a result in the layout of one file of PEFT's method_comparison/MetaMathQA/results (peft 0.15, 2025).

    The evals of the validation set come first in `metrics`, and the test set last.
    """
    memory, accuracy = float(row["accelerator_memory_max"]), float(row["test_accuracy"])
    evals = [
        {"step": step, "valid accuracy": accuracy / 2, "train loss": 0.7, "train samples": 4 * step}
        for step in (250, 500)
    ]
    return {
        "run_info": {
            "created_at": "2025-06-19T19:15:35+00:00",
            "total_time": 1993.5,
            "experiment_name": row["experiment_name"],
            "peft_branch": "main",
            "train_config": {"model_id": "meta-llama/Llama-3.2-3B", "seed": 0, "max_steps": 500},
            "peft_config": {"task_type": "CAUSAL_LM", "peft_type": row["peft_type"], "r": 32},
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": memory / 2,
            "accelerator_memory_max": memory,
            "accelerator_memory_reserved_99th": memory,
            "train_time": 1796.2,
            "num_trainable_params": 9175040,
            "num_total_params": 3221924864,
            "status": "success",
            "metrics": [*evals, {"step": 500, "test accuracy": accuracy, "train loss": 0.6, "train samples": 2000}],
        },
        "meta_info": {"package_info": {"peft-version": "0.15.2"}, "system_info": {"gpu": "made up"}},
    }


def frontier_of(path: Path, texts: tuple[str, ...] = MAP) -> FrontierInfo:
    columns = parse_map(texts)
    return frontier_info(read_results_file(path, columns), columns.objectives)


def not_beaten(rows: list[dict[str, str]]) -> set[str]:
    """Return the names of rows that no other row beats, by comparing every pair."""
    points = np.array([[float(one["accelerator_memory_max"]), -float(one["test_accuracy"])] for one in rows])
    beaten = [any((other <= one).all() and (other < one).any() for other in points) for one in points]
    return {row["experiment_name"] for row, is_beaten in zip(rows, beaten, strict=True) if not is_beaten}


# ---------------------------------------------------------------- files
def test_the_front_of_a_table_is_that_of_comparing_every_pair(tmp_path: Path) -> None:
    rows = made_up()
    info = frontier_of(written(tmp_path / "results.csv", rows))
    found = {one.placement.label.partition(": ")[2] for one in info.of_kind("frontier")}
    assert found == not_beaten(rows)
    assert 2 < len(found) < 20 and len(info.results) == 63


def test_csv_json_and_the_files_of_single_runs_say_the_same(tmp_path: Path) -> None:
    rows = made_up(12)
    (tmp_path / "results.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "runs").mkdir()
    for number, row in enumerate(rows):
        (tmp_path / "runs" / f"{number:02}.json").write_text(json.dumps(published(row), indent=2))
    texts = MAP[:3]
    tables = [
        frontier_of(written(tmp_path / "results.csv", rows), texts),
        frontier_of(tmp_path / "results.json", texts),
    ]
    tables.append(frontier_of(tmp_path / "runs", NESTED))
    fronts = [[(one.placement.label, one.kind) for one in info.results] for info in tables]
    assert fronts[0] == fronts[1] == fronts[2]


def test_rows_that_differ_in_seed_are_one_result_and_others_are_not(tmp_path: Path) -> None:
    rows = [{"name": "a", "run": str(seed), "cost": str(1 + seed), "score": "0.5"} for seed in range(3)]
    path = written(tmp_path / "results.csv", rows)
    over_seeds = frontier_of(path, ("x=cost:lower", "y=score:higher", "label=name", "seed=run"))
    assert [one.estimates[0].mean for one in over_seeds.results] == [2.0]
    apart = frontier_of(path, ("x=cost:lower", "y=score:higher", "label=name"))
    assert sorted(one.placement.label for one in apart.results) == ["a #1", "a #2", "a #3"]


def test_the_command_writes_page_picture_and_table(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "results.csv", made_up())
    with pytest.raises(SystemExit) as ended:
        main(["pareto", "--from", "results.csv", *(word for text in MAP for word in ("--map", text))])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "test_accuracy (higher) against accelerator_memory_max (lower)" in out
    assert "Best fit: " in out and "LoRA was" not in out
    assert {path.name for path in (tmp_path / "frontier" / "results").iterdir()} >= {"pareto.html", "pareto.png"}


def test_a_result_that_failed_is_refused_by_its_file(tmp_path: Path) -> None:
    """PEFT's comparison writes the file of a run that failed with an empty list of metrics."""
    body = published(made_up(1)[0])
    body["train_info"]["metrics"] = []  # type: ignore[index]
    (tmp_path / "failed.json").write_text(json.dumps(body))
    with pytest.raises(UserError, match=r"failed.json:1: there must be a column `train_info.metrics.-1.test accuracy`"):
        frontier_of(tmp_path, NESTED)


def test_nothing_is_said_of_a_baseline_and_no_winners_are_written(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rows = made_up(9)
    written(tmp_path / "results.csv", rows)
    for form in ("table", "markdown", "csv"):
        with pytest.raises(SystemExit) as ended:
            main(["pareto", "--from", "results.csv", "--format", form, *(w for text in MAP for w in ("--map", text))])
        out = capsys.readouterr().out
        assert ended.value.code == 0
        assert not {"baseline", "winners", "quantization"} & set(re.findall(r"\w+", out.lower()))
    directory = tmp_path / "frontier" / "results"
    assert {path.name for path in directory.iterdir()} == {"pareto.html", "pareto.png", "pareto.csv"}
    page = (directory / "pareto.html").read_text()
    assert "not dominated" in page and "baseline of its quantization" not in page
    assert f"{len(not_beaten(rows))} of 9 results on the frontier" in page


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("test_accuracy", "NaN", r"results.csv:3: column `test_accuracy`: a value must be a finite"),
        ("test_accuracy", "inf", "must be a finite number, but got 'inf'"),
        ("test_accuracy", "-1e308", r"must be a number up to 1e\+100, but got '-1e308'"),
        ("test_accuracy", "high", "must be a finite number, but got 'high'"),
        ("test_accuracy", "", "a value must be a finite number, but it is empty"),
        ("accelerator_memory_max", "12 GB", "column `accelerator_memory_max`: a value must be a finite number"),
        ("experiment_name", " ", "results.csv:3: column `experiment_name` must be a text or a number"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_file_line_and_column(tmp_path: Path, column: str, value: str, said: str) -> None:
    rows = made_up(4)
    rows[1][column] = value
    with pytest.raises(UserError, match=said):
        frontier_of(written(tmp_path / "results.csv", rows))


@pytest.mark.parametrize(
    ("name", "text", "said", "hint"),
    [
        ("r.csv", "experiment_name,test_acc,accelerator_memory_max\na,0.1,2\n",
         "r.csv:2: there must be a column `test_accuracy`, but it is missing", "`test_acc`"),
        ("r.csv", "a,a\n1,2\n", "r.csv:1: a column must be named once, but `a`", "rename"),
        ("r.csv", "a,b\n1\n", "r.csv:2: a row must have the 2 columns of the header, but has fewer", "quotation"),
        ("r.csv", "a,b\n1,2,3\n", "r.csv:2: a row must have the 2 columns of the header, but has more", "quotation"),
        ("r.csv", "a,b\n", "results must have at least one row", "--from reads"),
        ("r.csv", "", "results must have at least one row", "--from reads"),
        ("r.json", "[]", "results must have at least one row", "--from reads"),
        ("r.json", '[{"a": 1, "a": 2}]', "r.json:1: .* the key `a` occurs twice in one object", "one object"),
        ("r.json", '[{"test_accuracy": NaN}]', "r.json:1: a row must be one JSON object in UTF-8, but `NaN`", ""),
        ("r.json", '[\n{"test_accuracy": 1}]', "r.json:2: there must be a column `accelerator_memory_max`", ""),
        ("r.xlsx", "x", "--from must end in .csv, .tsv, .json or .jsonl, but got r.xlsx", "--from reads"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_file_and_line(tmp_path: Path, name: str, text: str, said: str, hint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        frontier_of(tmp_path / name)
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("texts", "said", "hint"),
    [
        (["x=a:lower"], "must name the columns x and y, but y is missing", "for example"),
        (["x=a:lower", "y=b"], "--map y must say which direction is better, but got `b`", "--map y=b:higher"),
        (["x=a:lower", "y=b:up"], "--map y must say which direction is better", "known: higher, lower"),
        (["x=a:lower", "y=eval_loss:higher"], "for `eval_loss` lower is better", "--map y=eval_loss:lower"),
        (["x=a:lower", "y=a:higher"], "x and y must be two columns", "for example"),
        (["x=a:lower", "x=b:lower"], "must name x once, but got a:lower and b:lower", "for example"),
        (["z=a"], "must name one of x, y, label, seed, group, but got 'z=a'", ""),
        (["x"], "--map must be NAME=COLUMN, but got 'x'", "for example"),
    ],
)  # fmt: skip
def test_a_bad_map_is_refused(texts: list[str], said: str, hint: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        parse_map(texts)
    assert hint in (refused.value.hint or "")


def test_a_direction_against_the_metrics_own_is_refused_for_our_results_too(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pareto", "--experiment", "stage4", "--y", "eval_loss:higher"])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert "--y must be in the metric's own direction, but for `eval_loss` lower is better" in error
    assert "hint: --y eval_loss:lower" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pareto"], "--experiment must name a study, or --from a file of results"),
        (["pareto", "--map", "x=a:lower", "--map", "y=b:lower"], "from --from or from --experiment, but neither is"),
        (
            ["pareto", "--from", "r.csv", "--experiment", "a", "--map", "x=a:lower", "--map", "y=b:lower"],
            "from --from or from --experiment, but both are",
        ),
        (["pareto", "--from", "r.csv"], "--map must name the columns x and y, but x and y are missing"),
        (
            ["pareto", "--from", "r.csv", "--map", "x=a:lower", "--map", "y=b:lower", "--level", "0.95"],
            "results that were not made here are compared by --map alone, but --level is given too",
        ),
        (
            ["pareto", "--from", "r.csv", "--map", "x=a:lower", "--map", "y=b:lower", "--y", "eval_loss"],
            "results that were not made here are compared by --map alone, but --y is given too",
        ),
    ],
)
def test_a_command_without_its_parts_is_refused(words: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------- runs
@pytest.fixture
def foreign(migrated_database: Path, tmp_path: Path) -> Callable[..., str]:
    """Write finished runs of another tool: name, metrics and parameters of each; return the store's URI."""
    import shutil

    from mlflow import MlflowClient

    path = tmp_path / "mlflow.db"
    shutil.copy(migrated_database, path)
    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.create_experiment("other", (tmp_path / "artifacts").as_uri())

    def write(*runs: tuple[str, dict[str, float], dict[str, str]]) -> str:
        for name, metrics, parameters in runs:
            run = client.create_run(experiment, run_name=name).info.run_id
            for key, value in metrics.items():
                client.log_metric(run, key, value)
            for key, value in parameters.items():
                client.log_param(run, key, value)
            client.set_terminated(run, "FINISHED")
        return f"sqlite:///{path}"

    return write


def test_foreign_runs_are_compared_over_their_seeds(foreign: Callable[..., str]) -> None:
    uri = foreign(
        ("small-0", {"acc": 0.5, "gb": 1.0}, {"model": "small", "seed": "0"}),
        ("small-1", {"acc": 0.6, "gb": 1.0}, {"model": "small", "seed": "1"}),
        ("large-0", {"acc": 0.5, "gb": 2.0}, {"model": "large", "seed": "0"}),
        ("unfinished", {"acc": 0.9}, {}),
    )  # fmt: skip
    columns = parse_map(["x=gb:lower", "y=acc:higher", "label=model", "seed=seed"])
    info = frontier_info(read_foreign_runs("other", uri, columns), columns.objectives)
    assert [(one.placement.label, one.kind, one.estimates[1].mean) for one in info.results] == [
        ("small", "frontier", 0.55),
        ("large", "dominated", 0.5),
    ]


@pytest.mark.parametrize(
    ("texts", "said", "hint"),
    [
        (["x=gb:lower", "y=accuracy:higher"], "no finished run of `other` has `accuracy`", "acc"),
        (["x=gb:lower", "y=acc:higher", "label=modle"], "run a: there must be a parameter or a tag `modle`", "`model`"),
    ],
)
def test_a_metric_or_a_parameter_that_no_run_has_is_refused(
    foreign: Callable[..., str], texts: list[str], said: str, hint: str
) -> None:
    uri = foreign(("a", {"acc": 0.5, "gb": 1.0}, {"model": "small"}))
    with pytest.raises(UserError, match=said) as refused:
        read_foreign_runs("other", uri, parse_map(texts))
    assert hint in (refused.value.hint or "")

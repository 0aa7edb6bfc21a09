"""Tests a study's configuration as one file: read again it plans the same trials, and a wrong one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ended import Ended, ended_by

from sweeps.cli import footprint
from sweeps.cli.studies import line_of_study
from sweeps.cli.study_file import read_study_file, schema, study_with
from sweeps.execution.submission import studies
from sweeps.study import Arm
from trainables.errors import ExitCode, UserError
from trainables.mini import BASE_DIRECTORY, datasets

WITH_FILES = [name for name in studies() if line_of_study(name).with_study]


def footprint_with(*words: object) -> Ended:
    return ended_by(footprint.main, "footprint", *words)


def planned(*words: object) -> list[dict[str, Any]]:
    found = footprint_with(*words, "--dry-run", "--json")
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)["trials"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    assert footprint_with("stage4", "--only", "A1,C2", "--seeds", "3", "--write-config", path).exit_code == 0
    return path


def changed(file: Path, **values: Any) -> Path:
    content = {**yaml.safe_load(file.read_text()), **values}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def test_a_file_plans_the_trials_that_its_options_plan_and_an_option_wins(file: Path, tmp_path: Path) -> None:
    storage = ("--storage", tmp_path / "runs")
    found = planned("stage4", "--config", file, "--seeds", "2", *storage)
    assert [one["name"] for one in found] == ["A0", "A1-s0", "A1-s1", "C2-s0", "C2-s1"]
    assert found == planned("stage4", "--only", "A1,C2", "--seeds", "2", *storage)


@pytest.mark.parametrize(
    ("filed", "typed"),
    [
        ({"epochs": 2.0}, ("--steps", "30")),
        ({"steps": 40}, ("--epochs", "2")),
        ({"recommended": True}, ("--only", "A1")),
    ],
)
def test_a_word_takes_the_place_of_what_it_excludes_in_the_file(
    filed: dict[str, Any], typed: tuple[str, str], file: Path, tmp_path: Path
) -> None:
    storage = ("--storage", tmp_path / "runs")
    found = planned("stage4", "--config", changed(file, options=filed), *typed, *storage)
    assert found == planned("stage4", *typed, *storage)


@pytest.mark.parametrize("name", WITH_FILES)
def test_every_study_is_written_as_it_is_and_fits_its_schema(name: str, tmp_path: Path) -> None:
    path, line = tmp_path / "study.yaml", line_of_study(name)
    assert footprint_with(name, "--write-config", path).exit_code == 0
    assert study_with(line.study, read_study_file(path, line)) == line.study
    jsonschema.Draft202012Validator(json.loads(schema(line))).validate(yaml.safe_load(path.read_text()))
    assert json.loads((tmp_path / "footprint.schema.json").read_text()) == json.loads(schema(line))


def test_arms_guards_and_limits_are_those_of_the_file(file: Path) -> None:
    guards = yaml.safe_load(file.read_text())["guards"]
    guards[0]["patience_evals"] = 3
    changed(file, arms={"ONE": {"language": 1, "settings": {"rank": 4}}}, guards=guards,
            limits={"warn_below_effective_rows": 2}, constraint={"max_hallucination_rise": 0.05})  # fmt: skip
    line = line_of_study("stage4")
    study = study_with(line.study, read_study_file(file, line))
    assert study.arms == (Arm("ONE", 1, 0, {"rank": 4}),)
    assert [guard.evals_needed for guard in study.guards] == [3, *(one.evals_needed for one in line.study.guards[1:])]
    assert study.limits.warn_below_effective_rows == 2 and study.limits.warn_above_warmup_share == 0.25
    assert vars(study.constraint) == {"max_irrelevant_pass_drop": 0.10, "max_hallucination_rise": 0.05}


@pytest.mark.parametrize(("values", "named"), [
    ({"study": "narrow"}, "`study`: the study must be `stage4`"),
    ({"armz": {}}, "`armz` is not a key"),
    ({"options": {"seedz": 3}}, "did you mean `seeds`?"),
    ({"options": {"seeds": "three"}}, "`options.seeds`"),
    ({"limits": {"refuse": 1.0}}, "`refuse` is not a key"),
    ({"guards": [{"rule": "Wall", "metric": "irrelevant_pass"}]}, "`guards[0]"),
    ({"guards": [{"rule": "Ceiling", "metric": "hallucination", "patience_evals": 1}]}, "`guards[0]"),
    ({"constraint": {"max_rise": 0.1}}, "`max_rise` is not a key"),
    ({"arms": {"A1": {"language": -1}}}, "`arms.A1.language`"),
    ({"settings": {"rnak": 4}}, "rnak"),
])  # fmt: skip
def test_a_wrong_file_is_refused_by_key_and_line(file: Path, values: dict[str, Any], named: str) -> None:
    found = footprint_with("stage4", "--config", changed(file, **values), "--dry-run")
    assert found.exit_code == ExitCode.BAD_INPUT and "Traceback" not in found.output
    assert named in found.stderr and "error:" in found.stderr


def test_a_file_that_is_not_there_or_exists_already_is_named(file: Path, tmp_path: Path) -> None:
    missing = footprint_with("stage4", "--config", tmp_path / "none.yaml")
    assert missing.exit_code == ExitCode.BAD_INPUT and "none.yaml" in missing.stderr
    again = footprint_with("stage4", "--write-config", file)
    assert again.exit_code == ExitCode.BAD_INPUT and "exists" in again.stderr
    nothing = file.with_name("empty.yaml")
    nothing.write_text("a: 1\n")
    with pytest.raises(UserError, match="with the key `study`"):
        read_study_file(nothing, line_of_study("stage4"))


def test_data_files_are_found_beside_the_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    files = datasets.write(tmp_path / "made", 0)
    below = tmp_path / "project"
    shutil.copytree(files.train.parent, below / "data")
    data = {"train": files.train.name, "val": files.validation.name, "ood": files.ood.name}
    options = {"only": ["A1"], **{key: f"data/{name}" for key, name in data.items()}}
    moved = below / "mine.yaml"
    moved.write_text(changed(file, options=options).read_text())
    monkeypatch.chdir(tmp_path)
    [_, arm] = planned("stage4", "--config", moved, "--base", BASE_DIRECTORY, "--epochs", "8", "--force")
    assert arm["name"] == "A1"
    (below / "data" / files.validation.name).unlink()
    gone = footprint_with("stage4", "--config", moved, "--base", BASE_DIRECTORY, "--dry-run")
    assert gone.exit_code == ExitCode.BAD_INPUT and str(below / "data" / files.validation.name) in gone.stderr

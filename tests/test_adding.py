"""Tests the examples of `docs/adding.md`: each changes at most three files of a copy of the tree, and works there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adding.md"
COPIED = ("sweeps", "trainables", "analysis", "benchmarks", "tests", "docs", "pyproject.toml", "README.md", "Makefile")
BLOCK = re.compile(r'^```(python|diff) title="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def examples(page: str) -> Mapping[str, list[tuple[str, str, str]]]:
    """Return the blocks (kind, file, text) of each section."""
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}
    return {name.removeprefix("A "): BLOCK.findall(part) for name, part in sections.items()}


EXAMPLES = examples(PAGE.read_text(encoding="utf-8"))


def patch(blocks: list[tuple[str, str, str]]) -> str:
    """Return the changes of existing files as one patch."""
    changes = [(name, text) for kind, name, text in blocks if kind == "diff"]
    return "".join(f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n{text}" for name, text in changes)


def applied(blocks: list[tuple[str, str, str]], copy: Path) -> Path:
    """Copy the tree and make the changes of an example in it."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(source, copy / name)
    for kind, name, text in blocks:
        if kind == "python":
            assert not (copy / name).exists()
            (copy / name).write_text(text, encoding="utf-8")
    changes = patch(blocks)
    if changes:
        subprocess.run(["git", "apply", "--recount", "-"], input=changes, text=True, cwd=copy, check=True)  # noqa: S607
    return copy


def ran(copy: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_there_are_the_five_and_each_takes_at_most_three_files() -> None:
    assert set(EXAMPLES) == {"study", "probe", "guard", "quantization", "model family"}
    assert all(1 <= len({file for _, file, _ in blocks}) <= 3 for blocks in EXAMPLES.values())


def test_a_guard_is_named_in_a_file_and_decides_at_its_limit(tmp_path: Path) -> None:
    copy = applied(EXAMPLES["guard"], tmp_path / "copy")
    ran(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests/trainables/test_maximum.py")
    given = {"rule": "Maximum", "metric": "shift", "max_value": 0.5, "patience_evals": 2}
    code = f"from trainables.guards import described, guard_of; print(described(guard_of({given!r})) == {given!r})"
    assert ran(copy, "-c", code) == "True\n"


def test_a_probe_has_its_metric_in_every_table(tmp_path: Path) -> None:
    copy = applied(EXAMPLES["probe"], tmp_path / "copy")
    code = (
        "from trainables.metrics import metric; from benchmarks.reference.metrics import metrics_page;"
        "print(metric('long_answers').direction, '## Brevity' in metrics_page())"
    )
    assert ran(copy, "-c", code) == "lower True\n"


@pytest.mark.slow
def test_a_probe_is_measured_by_a_launch(tmp_path: Path) -> None:
    copy = applied(EXAMPLES["probe"], tmp_path / "copy")
    ran(copy, "-m", "sweeps.smoke", "--cohort", "1", "--only", "C1")
    code = "from analysis import *; print(*eval_frame(records_of('smoke'))['long_answers'].unique())"
    assert ran(copy, "-c", code).strip() != ""


@pytest.mark.slow
def test_a_study_is_found_and_planned(tmp_path: Path) -> None:
    copy = applied(EXAMPLES["study"], tmp_path / "copy")
    assert "Which tower learns more from two layers?" in ran(copy, "-m", "sweeps", "towers", "--help")
    planned = ran(copy, "-m", "sweeps", "towers", "--dry-run")
    assert all(arm in planned for arm in ("A0", "language", "vision"))
    ran(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_import_directions.py")


@pytest.mark.slow
def test_a_quantization_is_listed_and_loads(tmp_path: Path) -> None:
    copy = applied(EXAMPLES["quantization"], tmp_path / "copy")
    assert "fp4-double" in ran(copy, "-m", "sweeps.stage4", "--help")
    ran(copy, "-m", "benchmarks.reference")
    ran(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests/trainables/model/test_quantization.py", "-m", "not slow")


@pytest.mark.slow
def test_a_family_passes_the_tests_of_all_families(tmp_path: Path) -> None:
    copy = applied(EXAMPLES["model family"], tmp_path / "copy")
    files = ("tests/trainables/model/test_families.py", "tests/trainables/model/test_family_weights.py",
             "tests/trainables/model/test_text_families.py")  # fmt: skip
    # its class cannot compute heads of another width than the model's share: o_proj is always square
    found = ran(copy, "-m", "pytest", "-p", "no:cacheprovider", "-k", "helium and not head_dim", *files)
    assert re.search(r"[1-9]\d* passed", found)


def test_a_change_that_does_not_fit_the_tree_is_found(tmp_path: Path) -> None:
    planted = [("diff", "Makefile", "@@ -30,2 +30,2 @@\n-no such line\n+another\n \n")]
    with pytest.raises(subprocess.CalledProcessError):
        applied(planted, tmp_path / "copy")

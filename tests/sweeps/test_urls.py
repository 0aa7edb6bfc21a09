"""Tests that a launch and the files that it reads refuse a URL where a path is meant, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.execution.options import Launch, experiment_directory
from sweeps.importers.files import base_of, rows_of, tool_of
from sweeps.importers.parsing import parse_config
from sweeps.planning.space import Axes
from sweeps.stages.files import read_stages
from trainables.errors import UserError
from trainables.io.strict_yaml import parse_yaml

CONFIGS = Path(__file__).parent / "importers" / "configs"


@pytest.mark.parametrize("name", ["storage", "train", "validation", "ood", "test", "ood_test"])
def test_a_launch_from_python(name: str) -> None:
    with pytest.raises(UserError, match=f"^{name} must be a path.* `s3:`"):
        Launch(**{name: Path("s3://bucket/x")})


def test_a_base_from_python() -> None:
    with pytest.raises(UserError, match=r"^base must be a path.* `abfs:`"):
        Launch(base="abfs://container/base")


@pytest.mark.parametrize("name", ["init_from", "restart_from"])
def test_axes_from_python(name: str) -> None:
    with pytest.raises(UserError, match="begins with `gs:`"):
        Axes(**{name: Path("gs://bucket/adapter")})


def test_a_directory_of_experiments() -> None:
    with pytest.raises(UserError, match=r"^--storage must be a path.* `s3:`"):
        experiment_directory(Path("s3://bucket/runs"), "stage4")


@pytest.mark.parametrize("line", ["train: s3://b/train.jsonl", "prev_checkpoint: s3://b/adapter"])
def test_a_file_of_stages(line: str, tmp_path: Path) -> None:
    lines = {"train": "train: rows.jsonl", "validation": "validation: rows.jsonl", "ood": "ood: rows.jsonl"}
    key = line.partition(":")[0]
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "stage.yaml").write_text("\n".join({**lines, key: line}.values()))
    with pytest.raises(UserError, match=f"`{key}` must be a path.* `s3:`"):
        read_stages([tmp_path / "stage.yaml"])


@pytest.mark.parametrize("field", ["base", "train"])
def test_an_imported_configuration(field: str) -> None:
    written = {"base": "Qwen/Qwen2.5-Coder-7B-Instruct", "train": "data/processed/train.jsonl"}[field]
    text = (CONFIGS / "axolotl_command_assistant.yaml").read_text().replace(written, "s3://bucket/x")
    document = parse_yaml(text, Path("c.yaml"))
    parsed = parse_config(document, tool_of(document))
    with pytest.raises(UserError, match=r"^c.yaml: .* must be a path.* `s3:`"):
        base_of(parsed) if field == "base" else rows_of(parsed, field)

"""Tests that files which MLflow keeps on this machine are read where they are, and others are copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables import mlflow_files
from trainables.mlflow_files import stored_files


@pytest.mark.parametrize("as_uri", [True, False])
def test_files_of_this_machine_are_read_where_they_are(tmp_path: Path, as_uri: bool) -> None:
    kept, scratch = tmp_path / "runs of 100%" / "artifacts", tmp_path / "scratch"
    kept.mkdir(parents=True)
    scratch.mkdir()
    (kept / "metrics.jsonl").write_text("{}")
    (kept / "holdout.jsonl").mkdir()
    place = kept.as_uri() if as_uri else str(kept)
    names = ("metrics.jsonl", "derived.jsonl", "holdout.jsonl")
    assert stored_files(place, "sqlite:///none.db", names, scratch) == [kept / "metrics.jsonl"]
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("place", ["mlflow-artifacts:/1/abc/artifacts", "s3://bucket/abc", "file://node-b/data/abc"])
def test_files_elsewhere_are_copied(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_files, "_downloaded", lambda *asked: list(asked))
    assert stored_files(place, "http://127.0.0.1:5000", ("a",), tmp_path)[0] == place

"""Digests of the files that tasks of suites are made of."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainables.io.checksums import canonical_json

YAML_SUFFIXES = (".yaml", ".yml")
TASK_SUFFIXES = (*YAML_SUFFIXES, ".py", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt")


def task_digest(path: Path) -> str:
    """Return the digest of an own task: of its YAML file, and of the files beside it that a task can be made of."""
    files = sorted(one for one in path.parent.iterdir() if one.is_file() and one.suffix in TASK_SUFFIXES)
    content = {one.name: file_digest(one) for one in files}
    return hashlib.sha256(canonical_json({"task": path.name, "files": content}).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

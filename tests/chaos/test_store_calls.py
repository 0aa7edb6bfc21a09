"""Tests that the faults planted in the MLflow mirror are in functions that it calls."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from trainables import mlflow_store

ROOT = Path(__file__).parents[2]
WRITES = ("create_run", "end_run", "reopen_run", "log_")


def test_every_write_of_the_tracker_is_a_point_and_no_point_is_gone() -> None:
    spec = importlib.util.spec_from_file_location("chaos_points", ROOT / "tests" / "chaos" / "sitecustomize.py")
    assert spec is not None and spec.loader is not None
    points = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(points)  # without a folder for its faults it changes nothing
    source = (ROOT / "sweeps" / "tracking" / "tracker.py").read_text(encoding="utf-8")
    called = {name for name in re.findall(r"mlflow_store\.(\w+)\(", source) if name.startswith(WRITES)}
    assert called == set(points.STORE_CALLS)
    assert all(hasattr(mlflow_store, name) for name in points.STORE_CALLS)

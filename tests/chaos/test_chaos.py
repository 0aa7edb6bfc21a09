"""Tests the harness of `make chaos` on a launch without Ray: a fault changes nothing, and a planted one is caught."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    """The harness, which is a script."""
    path = Path(__file__).parent / "run.py"
    spec = importlib.util.spec_from_file_location("chaos_run", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def undisturbed(chaos: ModuleType) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
    return chaos.undisturbed("toy")


def test_results_of_points_that_are_gone_are_left_out(
    chaos: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "RESULTS", tmp_path / "faults.json")
    kept = [{"fault": {"launch": "engine", "role": "driver", "point": "here", "nth": 1, "kind": "kill"}},
            {"fault": {"launch": "toy", "role": "driver", "point": "gone", "nth": 1, "kind": "kill"}}]  # fmt: skip
    gone = [{"fault": {"launch": "engine", "role": role, "point": point, "nth": 1, "kind": "eio"}}
            for role, point in (("driver", "gone"), ("engine", "here"))]  # fmt: skip
    chaos.write([*kept, *gone])
    chaos.drop_gone("engine", Counter({("driver", "here"): 3}))
    assert json.loads(chaos.RESULTS.read_text()) == kept


@pytest.mark.slow
def test_the_durable_writes_of_a_launch_are_points(undisturbed: tuple[Any, Counter[tuple[str, str]]]) -> None:
    names = {point for _, point in undisturbed[1]}
    writers = ("Experiment.configure", "Experiment.begin", "Record.create", "Record.append", "Record.saving",
               "Record.close", "claim", "holding", "_refresh")  # fmt: skip
    assert [one for one in writers if not any(f"{one}:fsync" in name for name in names)] == []
    assert "record.Record.saving:rename" in names


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "torn", "enospc", "eio", "delay"])
def test_a_fault_in_an_append_changes_nothing(
    kind: str, chaos: ModuleType, undisturbed: tuple[dict[str, Any], Any]
) -> None:
    fault = chaos.Fault("toy", "driver", "record.Record.append:fsync", 3, kind)
    seen = chaos.disturbed(fault, undisturbed[0])
    assert seen.fired and seen.problem == ""
    assert seen.exit_code == {"kill": -9, "torn": -9, "enospc": 1, "eio": 1, "delay": 0}[kind]


@pytest.mark.slow
def test_a_writer_in_place_is_caught(chaos: ModuleType, undisturbed: tuple[dict[str, Any], Any]) -> None:
    """Without a temporary name, a kill leaves half a file where it is read."""
    fault = chaos.Fault("toy", "driver", "record.Record.create:fsync", 1, "torn")
    assert chaos.disturbed(fault, undisturbed[0]).problem == ""
    caught = chaos.disturbed(fault, undisturbed[0], ("--in-place",))
    assert caught.fired and "spec.json" in caught.problem

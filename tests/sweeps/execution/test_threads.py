"""Tests how many threads engines have: as planned, and in a process that inherits OMP_NUM_THREADS=1 from Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray.autoscaler._private.command_runner import _with_interactive

from sweeps.execution.engine_plan import EnginePlan
from sweeps.execution.engine_text import ALONE, engines_here, engines_text, planned_text, threads_text
from sweeps.execution.options import Launch
from trainables.engine_log import EngineUse, add_use, uses

ROOT = Path(__file__).parents[3]
SHARE = "Engines have their share of their node's cores as threads"
IN_WORKER = """
import os, ray
from pathlib import Path
from trainables.record import Record
from trainables.workers.cohort_runner import CohortRunner
from trainables.workers.protocol import Request, Rules
from trainables.io.files import FileDamaged

@ray.remote(num_cpus=0.5)
class Engine:
    def look(self, directory):
        import torch
        inherited = os.environ["OMP_NUM_THREADS"], torch.get_num_threads()
        try:
            request = Request((directory,), Rules({}, (), None), str(Path(directory) / "stop"), 0.5, 0.0)
            CohortRunner(2, Path(directory) / "stop").open(Record(Path(directory)), request)
        except FileDamaged:  # the record is empty; the threads are set before it is read
            pass
        before = set(os.listdir("/proc/self/task"))
        torch.rand(2000, 2000) @ torch.rand(2000, 2000)
        return *inherited, torch.get_num_threads(), len(set(os.listdir("/proc/self/task")) - before)

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print("SEEN", *ray.get(Engine.remote().look.remote(os.environ["RECORD"])))
"""


def under_ray_up(command: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the shell that `ray up` and `ray exec` make on a node."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "FOOTPRINT_THREADS")}
    kept = {**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), **environment}
    shell = ["sh", "-c", " ".join(_with_interactive(command))]
    return subprocess.run(shell, cwd=tmp_path, env=kept, text=True, capture_output=True, timeout=280, check=False)


@pytest.mark.slow
def test_an_engine_has_its_threads_although_its_worker_inherits_one_from_ray(tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(IN_WORKER)
    (tmp_path / "record").mkdir()
    found = under_ray_up(f"{sys.executable} look.py", tmp_path, RECORD=str(tmp_path / "record"))
    [line] = [one for one in found.stdout.splitlines() if one.startswith("SEEN")] or [found.stdout + found.stderr]
    inherited, torch_before, torch_after, started = line.split()[1:]
    assert (inherited, torch_before) == ("1", "1"), "Ray no longer exports it: this test tests nothing"
    assert torch_after == "2" and int(started) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("options", "threads"), [((), os.cpu_count()), (("--threads", "1"), 1)])
def test_a_launch_by_ray_exec_takes_the_cores(options: tuple[str, ...], threads: int, tmp_path: Path) -> None:
    words = ("-m", "sweeps.stage4", "--only", "A0", "--steps", "2", "--eval-every", "2", *options)
    found = under_ray_up(" ".join([sys.executable, *words]), tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"1 engine of {threads} thread" in found.stdout
    [log] = (tmp_path / "runs" / "stage4" / "trials").glob("A0-*/engines.json")
    assert [one["threads"] for one in json.loads(log.read_text())] == [threads]


@pytest.mark.parametrize(
    ("machine", "trials", "most", "text"),
    [
        ((2, 0), 1, None, "1 engine of 2 threads, on 2 cores (--threads limits them)."),
        ((16, 0), 12, None, "4 engines of 4 threads, on 16 cores (--threads limits them)."),
        ((16, 0), 12, 1, "4 engines of 1 thread, on 16 cores (--threads limits them)."),
        ((1, 0), 3, None, "1 engine of 1 thread, on 1 core (--threads limits them)."),
        ((32, 4), 12, None, "4 engines of 8 threads, on 32 cores and 4 GPUs (--threads limits them)."),
        (None, 12, None, "Engines have their share of their node's cores as threads; the launch prints how many."),
        (
            None,
            12,
            3,
            "Engines have their share of their node's cores as threads, at most 3; the launch prints how many.",
        ),
    ],
)
def test_the_plan_says_how_many(machine: tuple[int, int] | None, trials: int, most: int | None, text: str) -> None:
    assert planned_text(machine, trials, most) == text


def test_nodes_of_several_sizes_are_counted_apart() -> None:
    plans = [EnginePlan("a", 1), EnginePlan("b", 8), EnginePlan("c", 1)]
    assert engines_text(plans) == "1 engine of 8 threads, 2 engines of 1 thread"


def test_the_plan_of_a_launch_knows_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert threads_text(1, Launch(threads=1)).startswith("1 engine of 1 thread, on ")
    assert threads_text(1, Launch(cohort=1)) == ALONE
    cluster = threads_text(1, Launch(address="auto", threads=None))
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert threads_text(1, Launch(threads=None)) == cluster == planned_text(None, 1, None)


def test_a_record_lists_each_engine_that_opened_its_trial(tmp_path: Path) -> None:
    assert uses(tmp_path) == []
    (tmp_path / "engines.json").write_text('[{"node": "a", "device": "cpu", "threads": 1}]', encoding="utf-8")
    add_use(tmp_path, "cpu", 2, "unquantized")
    add_use(tmp_path, "cuda:0", 8, "dequantized")
    earliest, first, second = uses(tmp_path)
    assert earliest.residency == "", "records of earlier versions do not say it"
    assert (first.device, first.threads, second.device, second.threads) == ("cpu", 2, "cuda:0", 8)
    assert first == EngineUse(first.node, "cpu", 2, "unquantized") and first.node


def test_a_forecast_counts_the_engines_that_the_plan_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("sweeps.execution.engine_text._gpus", lambda: 0)
    for trials in (1, 3, 12):
        named = sum(
            int(one.split()[0]) for one in threads_text(trials, Launch(threads=None)).split(", on ")[0].split(", ")
        )
        assert engines_here(trials, Launch(threads=None)) == named
    assert engines_here(12, Launch(cohort=1)) == 4 and engines_here(2, Launch(cohort=1)) == 2
    assert engines_here(12, Launch(address="auto")) == 1

"""Tests what the sections find, on a CPU: planted faults, and the whole command in a process without Ray and MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import shapes
from benchmarks.device import packing
from benchmarks.device.attribution import kind_of, profiled
from benchmarks.device.budget import Budget
from benchmarks.device.training import Device, backward, opened, random_batch, trial_spec
from benchmarks.gpu import NAMES
from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.stacked_lora import StackedLinear
from trainables.data.encoding import Encoder
from trainables.mini import BASE_DIRECTORY

ROOT = Path(__file__).parents[3]
CPU = Device(torch.device("cpu"), is_small=True)
WITHOUT = """
import sys, runpy
sys.modules.update(ray=None, mlflow=None)  # an import of either fails
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def test_operations_that_the_host_waits_for_are_counted() -> None:
    values = torch.arange(6.0)
    assert profiled(CPU, lambda: float(values.sum())).waits == {"aten::_local_scalar_dense": 1}
    assert profiled(CPU, lambda: values[values > 2]).waits == {"aten::nonzero": 1}
    assert profiled(CPU, lambda: values[2:] * 2).waits == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("kDequantizeBlockwise<float, 512>", "dequantization"), ("nvjet_hsh_128x64", "matrix products"),
     ("fmha_cutlassF_bf16", "attention"), ("distribution_elementwise_grid", "dropout masks"), ("silu", "other")],
)  # fmt: skip
def test_kernels_are_sorted_by_their_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_packed_gradient_that_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {row[-1] for row in packing.compared(CPU, "none")} == {"yes"}
    original = StackedLinear._scales
    monkeypatch.setattr(StackedLinear, "_scales", lambda *given: original(*given) * 1.001)
    assert "NO" in {row[-1] for row in packing.compared(CPU, "none")}


def test_a_step_waits_for_nothing_but_the_mask_of_transformers() -> None:
    base = shapes.random_base(BASE_DIRECTORY, CPU.device, CPU.dtype)
    members = opened(base, [trial_spec(2, seed=number) for number in range(2)])
    batch = random_batch(Encoder(base), CPU.device, 2, 16)
    shared = SharedForward(base, [one.adapter for one in members])
    base.model.train()
    waits = profiled(CPU, lambda: backward(shared, members, batch)).waits
    # transformers asks once, before the first layer, whether a mask of padding hides anything
    assert waits == {"aten::_local_scalar_dense": 1, "aten::is_nonzero": 1}


@pytest.mark.slow
def test_the_command_measures_every_section_without_ray_and_mlflow(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    command = [
        sys.executable,
        "-c",
        WITHOUT,
        "--device",
        "cpu",
        "--small",
        "--out",
        str(out),
        "--budget-seconds",
        "3600",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sections = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["sections"]
    assert {name: one["status"] for name, one in sections.items()} == dict.fromkeys(NAMES, "done")
    resident = sections["modes"]["tables"][1]["rows"]
    assert resident[0][1] == "refused" and all(row[1:] == [0.0, 0.0, 0.0] for row in resident[1:])
    assert {row[4] for row in sections["modes"]["tables"][0]["rows"]} == {"yes"}
    assert {row[-1] for row in sections["packing"]["tables"][0]["rows"]} == {"yes"}
    assert "no GPU was seen" in out.read_text(encoding="utf-8")


def test_the_budget_counts_from_its_start() -> None:
    budget = Budget(10)
    assert 9 < budget.left_seconds <= 10 and budget.fits(9) and not budget.fits(11)

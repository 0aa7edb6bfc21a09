"""Tests a probe step that raises: a fault of the arm is invalid, an error of the machine is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker, opened

from trainables.engine import Engine
from trainables.io.files import read_json
from trainables.probes.probe import Baseline
from trainables.selftest.run import SELFTEST_FILE, SelfTest, is_device_error


@pytest.mark.parametrize(
    ("message", "fires"),
    [
        ("element 0 of tensors does not require grad and does not have a grad_fn", True),
        ("", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", False),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", False),
    ],
)
def test_errors_of_the_arm_and_of_the_machine_are_distinguished(message: str, fires: bool) -> None:
    import torch

    assert is_device_error(RuntimeError(message)) is not fires
    assert is_device_error(torch.OutOfMemoryError(message)) and is_device_error(torch.AcceleratorError(message))
    with pytest.raises(RuntimeError) as memory:
        torch.empty(1 << 60, dtype=torch.int8)
    assert is_device_error(memory.value), "PyTorch has no class of its own for the CPU's memory"


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_probe_step_that_raises_is_the_arms_fault(
    where: str, engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    def in_place(_: Any, inputs: tuple[Any, ...], output: Any) -> None:
        inputs[0].mul_(1.0)  # which the backward of lora_B still needs

    def other_dtype(module: Any, inputs: tuple[Any, ...]) -> Any:
        return (inputs[0].double(),) if torch.is_grad_enabled() else None

    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        name, weights = trial.adapter.trained()[1]
        before, module = weights.detach().clone(), trial.adapter.peft_model.get_submodule(name.removesuffix(".weight"))
        plant = module.register_forward_hook(in_place) if where == "backward" else None
        plant = plant or module.register_forward_pre_hook(other_dtype)
        selftest = SelfTest(engine)
        finding = selftest.prove(trial.spec, trial.record, trial.adapter, trial.optimizer)
        plant.remove()
        assert finding is not None and (finding.check, finding.level) == ("probe_step", "invalid")
        assert finding.evidence.startswith("image batch: probe step 1 raised RuntimeError: ")
        assert ("inplace operation" if where == "backward" else "same dtype") in finding.evidence
        kept = read_json(trial.record.directory / SELFTEST_FILE)
        assert kept["finding"]["check"] == "probe_step" and kept["batches"]["image"]["losses"] == []
        assert torch.equal(weights, before) and weights.grad is None and not engine.base.model.training
        again = selftest.prove(trial.spec, trial.record, trial.adapter, trial.optimizer)
        assert again is None and "towers" in read_json(trial.record.directory / SELFTEST_FILE), (
            "it was not kept as proved"
        )


def test_out_of_memory_in_a_probe_step_is_not_the_arms_fault(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        with pytest.raises(torch.OutOfMemoryError):
            handle = engine.base.model.lm_head.register_full_backward_hook(full)
            try:
                SelfTest(engine).prove(trial.spec, trial.record, trial.adapter, trial.optimizer)
            finally:
                handle.remove()
        assert SelfTest(engine).prove(trial.spec, trial.record, trial.adapter, trial.optimizer) is None

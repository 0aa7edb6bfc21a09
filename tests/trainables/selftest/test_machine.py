"""Tests the machine check: the limits of a correct quantization, and planted kernels without gradient."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from trainables.selftest import machine
from trainables.selftest.machine import Passes, judge, machine_checks

SOUND = Passes(5.0, {"language": 0.1, "vision": 0.03}, {"language": 0.1, "vision": 0.03})


@pytest.mark.parametrize(
    ("passes", "level"),
    [
        (SOUND, "ok"),
        (replace(SOUND, loss=5.49), "ok"),
        (replace(SOUND, loss=5.51), "fail"),
        (replace(SOUND, loss=float("nan")), "fail"),
        (replace(SOUND, gradients={"language": 0.1, "vision": 0.0}), "fail"),
        (replace(SOUND, gradients={"language": float("inf"), "vision": 0.03}), "fail"),
        (replace(SOUND, gradients_after_eval={"language": 0.1, "vision": 0.0}), "fail"),
        (replace(SOUND, gradients_after_eval={"language": 0.104, "vision": 0.03}), "ok"),
        (replace(SOUND, gradients_after_eval={"language": 0.106, "vision": 0.03}), "fail"),
        (replace(SOUND, gradients_after_eval={"language": float("nan"), "vision": 0.03}), "fail"),
    ],
)
def test_the_edges_of_a_sound_quantization(passes: Passes, level: str) -> None:
    assert judge("nf4", passes, SOUND).level == level


@pytest.mark.parametrize("only_after_eval", [False, True])
def test_a_layer_without_gradient_is_found(monkeypatch: pytest.MonkeyPatch, only_after_eval: bool) -> None:
    """Failure F36 planted: the kernel computes the same numbers, and passes no gradient once it was repacked."""
    import torch
    from bitsandbytes.nn import Linear4bit

    forward, repacked = Linear4bit.forward, not only_after_eval

    def without_gradient(self: Linear4bit, x: torch.Tensor) -> torch.Tensor:
        nonlocal repacked
        repacked = repacked or not torch.is_grad_enabled()
        computed = forward(self, x)
        return computed.detach() if repacked else computed

    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    sound = machine.train_and_eval("nf4", cpu)
    assert judge("nf4", sound, sound).level == "ok"
    monkeypatch.setattr(Linear4bit, "forward", without_gradient)
    check = judge("nf4", machine.train_and_eval("nf4", cpu), sound)
    assert check.level == "fail"
    assert "would not train" in check.found


@pytest.mark.parametrize("bfloat16", [True, False])
def test_a_device_without_bfloat16_is_reported(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    """`auto` computes in bfloat16 on a GPU; emulated, it would take a multiple of the time."""
    import torch

    card = SimpleNamespace(name="Card", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    _, device = machine.check_devices()
    assert (device.level, device.found[:12]) == ("ok" if bfloat16 else "warn", "Card, 24 GiB")


@pytest.mark.parametrize("driver", [None, "/usr/bin/nvidia-smi"])
def test_a_gpu_that_torch_does_not_see_is_reported(monkeypatch: pytest.MonkeyPatch, driver: str | None) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: driver)
    _, devices = machine.check_devices()
    assert devices.level == ("warn" if driver else "ok")


def test_a_quantization_that_cannot_be_loaded_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_kernel(quantization: str, _: object) -> Passes:
        if quantization == "int8":
            raise RuntimeError("no kernel image is available for execution on the device")
        return SOUND

    monkeypatch.setattr(machine, "train_and_eval", no_kernel)
    found = {check.name: check for check in machine.check_here()}
    assert found["base in int8"].level == "fail"
    assert "no kernel image" in found["base in int8"].found
    assert found["base in nf4"].level == "ok"


def test_a_check_that_dies_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    [check] = machine_checks()
    assert (check.level, check.found) == ("fail", "the check ended with: exit code 1")
    assert check.hint == f"see why: {machine.BY_HAND}"

"""Splits a base that no single device holds over several, as accelerate does, and says how much each would hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.planning.device_memory import GIGABYTE, Devices
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.forecast import Forecast
from sweeps.planning.resources import USABLE_SHARE, TrialResources
from trainables.model.families import family_of

ELSEWHERE = ("cpu", "disk")  # what accelerate puts where no device has room


@dataclass(frozen=True)
class Split:
    """The bytes of weights that each device would hold, and the bytes for which none has room."""

    held: tuple[int, ...]
    left_over: int


def split_of(base: Path, weight_bytes: int, devices: Sequence[int]) -> Split:
    """Return accelerate's split of a base, built on the meta device, by layers; source: `infer_auto_device_map`.

    `weight_bytes` are those of the quantized base: every module takes its share of them.
    """
    import torch
    import transformers
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    from trainables.model.loading import read_configuration

    family = family_of(base)[0]
    with torch.device("meta"):
        model = getattr(transformers, family.model_class)(read_configuration(base))
    model.tie_weights()
    sizes = compute_module_sizes(model)
    scale = weight_bytes / sizes[""]
    room = {number: int(USABLE_SHARE * size / scale) for number, size in enumerate(devices)}
    layers = model._no_split_modules
    placed = infer_auto_device_map(model, max_memory={**room, "cpu": 10**15}, no_split_module_classes=layers)
    held = [0] * len(devices)
    left_over = 0
    for name, device in placed.items():
        if device in ELSEWHERE:
            left_over += sizes[name]
        else:
            held[int(device)] += sizes[name]
    return Split(tuple(int(one * scale) for one in held), int(left_over * scale))


def memory_findings(
    forecasts: Sequence[Forecast], found: Sequence[TrialResources], devices: Devices
) -> tuple[PreflightFinding, ...]:
    """Return what to say of trials that no device holds: refused where it is named, or the weights alone exceed it."""
    large = [one for one in found if not one.fits]
    if not large:
        return ()
    worst = max(large, key=lambda one: one.memory.peak)
    gigabytes = f"{devices.largest / GIGABYTE:.3g} GB"
    needs = (
        f"{worst.trial} takes {worst.memory.peak / GIGABYTE:.3g} GB, {worst.memory.weights / GIGABYTE:.3g} of weights"
    )
    message = f"a trial must fit one device, but the largest has {gigabytes} and {needs}, {worst.fit}"
    if worst.memory.weights <= USABLE_SHARE * devices.largest:
        level = "refuse" if devices.are_given else "warn"
        hint = "a coarser --quant, fewer layers, a lower --rank or max_tokens; or --memory with what the device has"
        return (PreflightFinding(level, "memory", message, hint, tuple(one.trial for one in large)),)
    hint = "use a coarser --quant, a smaller base or a larger device; --memory GB says what a device has"
    if len(devices.bytes_each) > 1:
        base = next(one.spec.base.path for one in forecasts if one.spec.trial_id == worst.trial_id)
        message += f"; {_split_text(split_of(base, worst.memory.weights, devices.bytes_each))}"
    return (PreflightFinding("refuse", "memory", message, hint, tuple(one.trial for one in large)),)


def _split_text(split: Split) -> str:
    each = ", ".join(f"{one / GIGABYTE:.3g}" for one in split.held)
    if split.left_over:
        return (f"split by layers the devices hold {each} GB of weights, and "
                f"{split.left_over / GIGABYTE:.3g} GB have no room")  # fmt: skip
    return (f"split by layers the devices would hold {each} GB of weights, but an engine holds its base on one "
            "device: engines on several were never run")  # fmt: skip

"""Splits a base over several devices as accelerate does; no engine holds a base on more than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.model.families import family_of

ELSEWHERE = ("cpu", "disk")  # what accelerate puts where no device has room


@dataclass(frozen=True)
class Split:
    """The bytes of weights that each device would hold, and the bytes for which none has room."""

    held: tuple[int, ...]
    left_over: int


def split_of(base: Path, weight_bytes: int, devices: Sequence[int], usable_share: float) -> Split:
    """Return accelerate's split of a base, built on the meta device, by layers; source: `infer_auto_device_map`.

    `weight_bytes` are those of the quantized base: every module takes its share of them. Weights may take
    `usable_share` of the bytes of a device.
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
    room = {number: int(usable_share * size / scale) for number, size in enumerate(devices)}
    layers = model._no_split_modules
    placed = infer_auto_device_map(model, max_memory={**room, "cpu": 10**15}, no_split_module_classes=layers)
    held = [0] * len(devices)
    left_over = 0
    for name, device in placed.items():
        if device in ELSEWHERE:
            left_over += sizes[name]
        else:
            held[int(str(device))] += sizes[name]
    return Split(tuple(int(one * scale) for one in held), int(left_over * scale))

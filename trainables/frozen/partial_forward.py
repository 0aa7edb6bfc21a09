"""Runs a part of a model's forward: skips blocks, and replaces or catches the input of a block.

The model's own forward still runs, with its masks, positions and order of blocks, so this holds for every family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from trainables.frozen.key import Cut
from trainables.model.base import Base
from trainables.model.families import TowerName
from trainables.model.families.family import VisionSteps, block_name


def block_modules(base: Base, tower: TowerName) -> list[torch.nn.Module]:
    """Return the blocks of a tower, first to last, and then, of the decoder, its last norm."""
    if tower == "language":
        return [*base.decoder.layers, base.decoder.norm]
    return [base.model.get_submodule(block_name(block)) for block in base.towers["vision"]]


def vision_steps(base: Base) -> VisionSteps:
    """Return the steps of the vision tower of a base that has one."""
    shared = base.family.shared_forward
    assert shared is not None and shared.vision is not None
    return shared.vision


@contextmanager
def started_at(base: Base, cut: Cut, hidden: torch.Tensor) -> Iterator[None]:
    """Skip the blocks below a cut, and give `hidden` to the block at it, before any other hook of that block."""
    modules = block_modules(base, cut.tower)

    def replace(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (hidden, *args[1:]), kwargs

    handle = modules[cut.block].register_forward_pre_hook(replace, with_kwargs=True, prepend=True)
    try:
        with skipped(modules[: cut.block]):
            yield
    finally:
        handle.remove()


@contextmanager
def stopped_at(base: Base, cut: Cut) -> Iterator[list[torch.Tensor]]:
    """Skip the blocks from a cut on, and catch what enters the block at it."""
    modules, caught = block_modules(base, cut.tower), []
    handle = modules[cut.block].register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    last = len(base.towers[cut.tower])
    try:
        with skipped(modules[cut.block : last]):
            yield caught
    finally:
        handle.remove()


@contextmanager
def skipped(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Let each of these modules return its first argument, within the block."""
    with _replaced({module: _first for module in modules}):
        yield


@contextmanager
def answered(outputs: dict[torch.nn.Module, torch.Tensor]) -> Iterator[None]:
    """Let each of these modules return this tensor, within the block."""
    with _replaced({module: partial(_given, output) for module, output in outputs.items()}):
        yield


@contextmanager
def _replaced(forwards: dict[torch.nn.Module, Any]) -> Iterator[None]:
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, forward in own.items():
            if forward is not None:
                module.forward = forward  # what another library had put there
            elif "forward" in vars(module):
                del module.forward  # the method of its class shows again


def _first(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden


def _given(output: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return output

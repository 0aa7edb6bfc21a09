"""Lets the processes of a test run draw each data set of the miniature once; tests write copies of it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from trainables.mini import datasets, stages
from trainables.mini.text import datasets as commands


def write_once(patch: pytest.MonkeyPatch) -> None:
    """Replace drawing 1,600 pictures, which takes a second or two, by a copy of the first."""
    for module in (datasets, stages, commands):
        patch.setattr(module, "fill", _copying(module, module.fill))


def _copying(module: ModuleType, fill: Callable[..., None]) -> Callable[..., None]:
    def copy(directory: Path, *parts: int) -> None:
        kept = Path(os.environ["XDG_CACHE_HOME"]) / "-".join((module.__name__.replace(".", "-"), *map(str, parts)))
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                begun = kept.with_suffix(".begun")
                begun.mkdir()
                fill(begun, *parts)
                begun.rename(kept)
        shutil.copytree(kept, directory, dirs_exist_ok=True)

    return copy

"""Copies of a base in which one thing is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def copied(base: Path, directory: Path) -> Path:
    """Copy a base into a new directory."""
    return Path(shutil.copytree(base, directory / "base"))


def change_weights(base: Path, change: Callable[[Weights], Weights]) -> None:
    """Rewrite the weights of a base."""
    changed = {name: one.clone() for name, one in change(load_file(base / WEIGHTS)).items()}
    save_file(changed, base / WEIGHTS, metadata={"format": "pt"})


def change_config(base: Path, **values: Any) -> None:
    """Set keys of config.json; None removes a key."""
    config = {**json.loads((base / "config.json").read_text()), **values}
    (base / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def without(*parts: str) -> Callable[[Weights], Weights]:
    """Drop the weights whose names contain one of these texts."""
    return lambda weights: {name: one for name, one in weights.items() if not any(part in name for part in parts)}


def renamed(change: Callable[[str], str]) -> Callable[[Weights], Weights]:
    """Change every name."""
    return lambda weights: {change(name): one for name, one in weights.items()}


def added(more: Mapping[str, torch.Tensor]) -> Callable[[Weights], Weights]:
    """Add weights."""
    return lambda weights: {**weights, **more}


def sharded(base: Path, parts: int = 3) -> dict[str, str]:
    """Split the weights of a base over several files and an index; return the index."""
    weights = load_file(base / WEIGHTS)
    names = sorted(weights)
    places = {name: f"model-{1 + number * parts // len(names):05}-of-{parts:05}.safetensors"
              for number, name in enumerate(names)}  # fmt: skip
    for file in set(places.values()):
        save_file({name: weights[name] for name in names if places[name] == file}, base / file, {"format": "pt"})
    (base / WEIGHTS).unlink()
    write_index(base, places)
    return places


def write_index(base: Path, places: Mapping[str, str]) -> None:
    """Write an index that places each weight in a file."""
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict(places)}))

"""Trains the base of the text miniature, with the code of the other miniature."""

from __future__ import annotations

from pathlib import Path

from trainables.mini import build as base_training
from trainables.mini import capacities
from trainables.mini.text import model, world
from trainables.mini.text.defaults import BASE_SEED, BASE_STEPS

WEIGHT_BYTES_LIMIT = 2_000_000

CAPACITIES: capacities.Capacities = {
    "general": world.general,
    "declined": world.declined,
    "explained": world.explained,
    "copied": world.copied,
    "hinted": world.hinted,
    "task": world.task,
}


def build(directory: Path, steps: int = BASE_STEPS, seed: int = BASE_SEED, count: int = 96) -> dict[str, float]:
    """Train the base, replace `directory` by it, and evaluate the saved weights on `count` examples per capacity."""
    miniature = model.fresh(seed)
    base_training.train_on_one_core(miniature, world.pretraining, steps, seed)
    base_training.save(miniature, directory, WEIGHT_BYTES_LIMIT)
    return measure(model.load(directory), count)


def measure(miniature: capacities.Miniature, count: int = 96, seed: int = 0) -> dict[str, float]:
    """Measure the share of exact answers of every capacity on held-out seeds."""
    return capacities.measure(miniature, count, seed, CAPACITIES)

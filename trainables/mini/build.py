"""Trains the miniature base from scratch on generated examples and saves it as a Hugging Face model."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from trainables.mini import capacities, model, world
from trainables.mini.defaults import BASE_BATCH_ROWS, BASE_LEARNING_RATE, BASE_SEED, BASE_STEPS, BASE_WARMUP_RATIO
from trainables.mini.model import Miniature
from trainables.mini.world import Example

WEIGHT_BYTES_LIMIT = 4_000_000


def train_base(miniature: Miniature, draw: Callable[[random.Random], Example], steps: int, seed: int) -> None:
    """Train all weights, each step on a new batch of drawn examples; shows progress and the loss."""
    import torch
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    network, rng = miniature.network, random.Random(f"schooling/{seed}")
    optimizer = torch.optim.AdamW(network.parameters(), lr=BASE_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, BASE_LEARNING_RATE, total_steps=steps, pct_start=BASE_WARMUP_RATIO, cycle_momentum=False
    )
    network.train()
    columns = (*Progress.get_default_columns(), TimeElapsedColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=steps, loss=float("nan"))
        for _ in range(steps):
            examples = [draw(rng) for _ in range(BASE_BATCH_ROWS)]
            loss = network(**capacities.collate(miniature, examples, answered=True)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.update(bar, advance=1, loss=loss.item())


def save(miniature: Miniature, directory: Path, weight_bytes_limit: int = WEIGHT_BYTES_LIMIT) -> None:
    """Write the model as one float16 file with its tokenizer and image processor; atomically.

    Raises:
        ValueError: the weights would take `weight_bytes_limit` bytes or more.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        miniature.network.half().save_pretrained(fresh)
        miniature.network.float()
        miniature.tokenizer.save_pretrained(fresh)
        if miniature.processor is not None:
            miniature.processor.save_pretrained(fresh)
        compute_in_float32(fresh / "config.json")
        size = (fresh / "model.safetensors").stat().st_size
        if size >= weight_bytes_limit:
            raise ValueError(f"the weights must take fewer than {weight_bytes_limit} bytes, got {size}")
        make_readable(fresh)
        if directory.exists():
            os.replace(directory, Path(scratch) / "old")
        os.replace(fresh, directory)


def make_readable(directory: Path) -> None:
    """Set ordinary permissions, because temporary directories and safetensors files are created private."""
    directory.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o644)


def compute_in_float32(config: Path) -> None:
    """Set float32 in a saved configuration, so that loading without a dtype computes in float32, not float16."""
    settings = json.loads(config.read_text())
    for part in (settings, settings.get("text_config"), settings.get("vision_config")):
        if part is not None:
            part["dtype"] = "float32"
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def build(directory: Path, steps: int = BASE_STEPS, seed: int = BASE_SEED, count: int = 96) -> dict[str, float]:
    """Train the base, replace `directory` by it, and evaluate the saved weights on `count` examples per capacity."""
    miniature = model.fresh(seed)
    train_on_one_core(miniature, world.pretraining, steps, seed)
    save(miniature, directory)
    return capacities.measure(model.load(directory), count)


def train_on_one_core(miniature: Miniature, draw: Callable[[random.Random], Example], steps: int, seed: int) -> None:
    """Train with one thread, which is as fast as two at this size and bitwise equal on any number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_base(miniature, draw, steps, seed)
    finally:
        torch.set_num_threads(threads)

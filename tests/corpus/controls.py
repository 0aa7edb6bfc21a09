"""Unusual but healthy runs: none may end as invalid or be labelled as degraded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trainables.spec import Placement

BOTH, LANGUAGE, VISION = Placement(language=2, vision=2), Placement(language=2), Placement(vision=3)


@dataclass(frozen=True)
class Control:
    """One kind of healthy run: the bench it runs on (rows, quantization, dtype) and its changes of the spec."""

    what: str
    bench: tuple[str, str, str] = ("none", "image", "float32")
    changes: dict[str, Any] = field(default_factory=dict)
    continues: bool = False


CONTROLS = (
    Control("a plain run", changes={"placement": BOTH}),
    Control("the baseline, which trains nothing (A0)", changes={"placement": Placement()}),
    Control("language alone", changes={"placement": LANGUAGE}),
    Control("vision alone", changes={"placement": VISION}),
    Control("steps of text alone, which do not reach the vision tower", ("none", "mixed", "float32"),
            {"placement": VISION, "batch_rows": 1, "steps": 8}),
    Control("rows with and without pictures", ("none", "mixed", "float32"), {"placement": BOTH, "batch_rows": 1}),
    Control("rsLoRA, whose gradients are larger", changes={"rslora": True, "rank": 16, "alpha": 32.0}),
    Control("rate 0 in warm-up, an eval after every step", changes={"warmup_ratio": 1.0, "eval_every_steps": 1}),
    Control("no warm-up, lora_A without gradient in step 1", changes={"warmup_ratio": 0.0}),
    Control("large rates on a few noisy rows", changes={"learning_rate": 2e-2, "vision_learning_rate": 2e-2,
                                                        "batch_rows": 1, "eval_every_steps": 1}),
    Control("small rates", changes={"learning_rate": 1e-5, "vision_learning_rate": 1e-5}),
    Control("heavy dropout", changes={"dropout": 0.5}),
    Control("accumulated batches", changes={"accumulation_steps": 3, "batch_rows": 1}),
    Control("a long run of single rows, gradients of every size",
            changes={"steps": 40, "eval_every_steps": 40, "batch_rows": 1}),
    Control("an adapter that answers the validation rows exactly", ("none", "validation", "float32"),
            {"learning_rate": 1e-2, "vision_learning_rate": 1e-2, "rank": 8, "steps": 32, "eval_every_steps": 32}),
    Control("bfloat16", ("none", "image", "bfloat16")),
    Control("NF4", ("nf4-double", "image", "float32")),
    Control("int8", ("int8", "image", "float32")),
    Control("a continued adapter", continues=True),
    Control("a continued adapter and its optimizer", changes={"optimizer": "resumed"}, continues=True),
)  # fmt: skip


def draws(count: int) -> Iterator[tuple[Control, dict[str, Any]]]:
    """Draw healthy runs in turn, each with its own seeds and, where the control leaves them open, rank and length."""
    rng = random.Random("healthy")
    for number in range(count):
        control = CONTROLS[number % len(CONTROLS)]
        changes = {"seed": rng.randrange(1000), "data_seed": rng.randrange(1000)}
        if not control.continues and "rank" not in control.changes:
            changes |= {"rank": rng.choice((2, 4, 8)), "steps": rng.choice((4, 6, 8))}
        yield control, changes | control.changes

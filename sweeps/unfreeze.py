"""Unfreeze: vision last-2, then last-4, then last-6, each from the best of the one before, while the guards hold.

python -m sweeps.unfreeze                    on the embedded miniature
python -m sweeps.unfreeze --init-from runs/stage4/trials/A1-…/best
python -m sweeps.unfreeze --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl

Source: brief 001, next steps. The language tower keeps its last 2 layers, where the brief expects its winners.
"""

from sweeps.study import Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="unfreeze",
    question="How far up may the vision tower be unfrozen before the guards object?",
    arms=(
        Arm("C1", language=2, vision=2),
        Arm("C2", language=2, vision=4),
        Arm("C3", language=2, vision=6),
    ),
    settings={
        "rank": 16,
        "alpha": 32.0,
        "dropout": 0.1,
        "learning_rate": 1e-4,
        "vision_learning_rate": 3e-4,
        "weight_decay": 0.1,
        "warmup_ratio": 0.2,
        "batch_rows": 1,
        "accumulation_steps": 16,
        "epochs": 1.0,
        "eval_every_steps": 50,
    },
    # half of the rates: three stages in a row spend more generality than one
    miniature={
        **defaults.SETTINGS,
        "learning_rate": defaults.LEARNING_RATE / 2,
        "vision_learning_rate": defaults.VISION_LEARNING_RATE / 2,
        "steps": 90,
        "eval_every_steps": 30,
    },
)

if __name__ == "__main__":
    from sweeps.cli.unfreeze import main

    main(STUDY)

"""Coverage: how much of the data a run must see, and at which learning rate, before it learns anything.

python -m sweeps.coverage                    two fixes of a failed run and two variants, on the miniature
python -m sweeps.coverage --force            also the failed run, which preflight refuses
python -m sweeps.coverage --only fix1 --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl

Budgets are given in epochs, so that they do not depend on the size of the data set. The failed run had 45,000 rows.
"""

from sweeps.study import Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="coverage",
    question="How much of the data must a run see, and at which rate, before it learns?",
    arms=(
        Arm("A0", language=0, vision=0),
        # 500 steps of 8 rows: 8.9 % of the data; the cosine schedule ends at 0
        Arm(
            "failing",
            language=2,
            vision=4,
            settings={"batch_rows": 1, "accumulation_steps": 8, "epochs": 4_000 / 45_000, "learning_rate": 5e-5,
                      "vision_learning_rate": 1.5e-4, "warmup_ratio": 0.0, "min_rate_ratio": 0.0,
                      "eval_every_steps": 150},
            miniature={"batch_rows": 8, "accumulation_steps": 1, "learning_rate": 1e-4, "vision_learning_rate": 1.5e-3,
                       "eval_every_steps": 4},
        ),
        # fix 1: 2,000 steps of 32 rows
        Arm("fix1", language=2, vision=4),
        # fix 2: 5,000 steps of 64 rows at twice the learning rate
        Arm(
            "fix2",
            language=2,
            vision=4,
            settings={"batch_rows": 4, "epochs": 320_000 / 45_000, "learning_rate": 2e-4, "vision_learning_rate": 6e-4,
                      "weight_decay": 0.01},
            miniature={"batch_rows": 16, "accumulation_steps": 4, "learning_rate": 4e-4, "vision_learning_rate": 6e-3,
                       "eval_every_steps": 27},
        ),
        # fix 1 with a growing batch, and fix 1 with a constant rate until the last fifth of the steps
        Arm("fix1grow", language=2, vision=4, settings={"batch_warmup_ratio": 0.3}),
        Arm("fix1stable", language=2, vision=4, settings={"schedule": "stable"}),
    ),
    refused=("failing",),
    tables=("criteria",),
    settings={
        "weight_decay": 0.0,
        "warmup_ratio": 0.1,
        "batch_rows": 2,
        "accumulation_steps": 16,
        "epochs": 64_000 / 45_000,
        "eval_every_steps": 500,
    },
    miniature={
        "learning_rate": defaults.LEARNING_RATE,
        "vision_learning_rate": defaults.VISION_LEARNING_RATE,
        "batch_rows": 16,
        "accumulation_steps": 2,
        "eval_every_steps": 11,
    },
)  # fmt: skip

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)

"""Smoke: ten steps that prove a set-up before a real study is paid for (brief 004).

python -m sweeps.smoke                       on the embedded miniature, in about a minute
python -m sweeps.smoke --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl
"""

from sweeps.study import Arm, Limits, Study
from trainables.mini import defaults

STUDY = Study(
    name="smoke",
    question="Does this set-up load, train both towers, measure, guard, checkpoint and record?",
    arms=(
        Arm("A0", language=0, vision=0),
        Arm("C1", language=2, vision=2),
    ),
    settings={
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.05,
        "learning_rate": 2e-4,
        "vision_learning_rate": 3e-4,
        "warmup_ratio": 0.1,
        "batch_rows": 1,
        "accumulation_steps": 16,
        "steps": 10,
        "eval_every_steps": 3,
    },
    miniature={**defaults.SETTINGS, "steps": 10, "eval_every_steps": 3},
    # ten steps are no training run: that they see little of the data is no reason to refuse or warn
    limits=Limits(refuse_below_coverage_epochs=0.0, warn_below_coverage_epochs=0.0),
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)

"""Unfreeze: 2, then 4, then 6 vision blocks. Each stage extends the best adapter of the stage before.

python -m sweeps.unfreeze                    on the embedded miniature
python -m sweeps.unfreeze --init-from runs/stage4/trials/A1-…/best
python -m sweeps.unfreeze --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl

The adapter always covers the last 2 language layers. The study ends at the first stage that a guard stops.
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="unfreeze",
    question="How many vision blocks can be unfrozen before a guard stops the training?",
    arms=(
        Arm("C1", language=2, vision=2),
        Arm("C2", language=2, vision=4),
        Arm("C3", language=2, vision=6),
    ),
    settings=ONE_EPOCH,
    # half the rates: three stages in a row lose more generality than one
    miniature={
        **defaults.SETTINGS,
        "learning_rate": defaults.LEARNING_RATE / 2,
        "vision_learning_rate": defaults.VISION_LEARNING_RATE / 2,
        "steps": 90,
        "eval_every_steps": 18,
    },
    miniature_before_format_3=defaults.BEFORE_FORMAT_3,
)

if __name__ == "__main__":
    from sweeps.cli.unfreeze import main

    main(STUDY)

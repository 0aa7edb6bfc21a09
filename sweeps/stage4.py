"""Stage 4: how many LoRA modules, and in which tower, a model takes before it loses its generality.

python -m sweeps.stage4                      all twelve placements on the embedded miniature
python -m sweeps.stage4 --recommended        the six to try first
python -m sweeps.stage4 --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl --epochs 1
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="stage4",
    question="How many LoRA modules, in which tower, before the model loses its generality?",
    arms=(
        Arm("A0", language=0, vision=0),
        Arm("A1", language=2, vision=0),
        Arm("A2", language=4, vision=0),
        Arm("B1", language=0, vision=2),
        Arm("B2", language=0, vision=4),
        Arm("B3", language=0, vision=6),
        Arm("C1", language=2, vision=2),
        Arm("C2", language=2, vision=4),
        Arm("C3", language=2, vision=6),
        Arm("D1", language=4, vision=2),
        Arm("D2", language=4, vision=4),
        Arm("D3", language=4, vision=6),
    ),
    recommended=("A1", "A2", "B2", "B3", "C2", "C3"),
    settings=ONE_EPOCH,
    miniature=defaults.SETTINGS,
    miniature_before_format_3=defaults.BEFORE_FORMAT_3,
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)

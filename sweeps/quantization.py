"""Quantization: the same arm on five quantizations of its base, with the same seed and data order.

python -m sweeps.quantization                on the embedded miniature
python -m sweeps.quantization --seeds 3
python -m sweeps.quantization --quant int8,nf4-double --base DIR --train … --val … --ood …
"""

from sweeps.study import Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="quantization",
    question="How far can the base be quantized before the same arm learns less or forgets more?",
    arms=(
        Arm("A0", language=0, vision=0),
        Arm("C2", language=2, vision=4),
    ),
    tables=("quantization",),
    quantizations=("none", "int8", "nf4", "nf4-double", "fp4"),
    settings={
        "rank": 32,
        "alpha": 64.0,
        "rslora": True,
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
        "batch_rows": 2,
        "accumulation_steps": 16,
        "epochs": 1.0,
        "eval_every_steps": 100,
    },
    # rsLoRA scales the update by 64 / sqrt(32) = 11.3, Stage 4 by 32 / 16 = 2; at Stage 4's rates a guard stops the arm
    miniature={
        **defaults.SETTINGS,
        "rank": 32,
        "alpha": 64.0,
        "rslora": True,
        "learning_rate": defaults.LEARNING_RATE / 8,
        "vision_learning_rate": defaults.VISION_LEARNING_RATE / 8,
    },
    miniature_before_format_3=defaults.BEFORE_FORMAT_3,
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)

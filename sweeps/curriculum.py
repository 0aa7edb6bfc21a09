"""Curriculum: stages that continue one adapter, each on its own rows and at a lower rate.

python -m sweeps.curriculum                             three stages of the embedded miniature's task
python -m sweeps.curriculum stage1.yaml stage2.yaml     stages of your own; docs/curriculum.md has the keys
python -m sweeps.curriculum --resume-optimizer          keep AdamW's moments from stage to stage
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="curriculum",
    question="Does an adapter that learns in stages keep what the earlier stages taught?",
    # The later rates are 0.7 and 0.5 of the first: a fresh optimizer overshoots on trained weights.
    # Qwen3-VL-4B and -8B have 36 language layers.
    arms=(
        Arm(
            "S1",
            language=36,
            vision=0,
            settings={"learning_rate": 5.0e-5, "vision_learning_rate": 5.0e-5},
            miniature={"learning_rate": 2.0e-4, "vision_learning_rate": 3.0e-3},
        ),
        Arm(
            "S2",
            language=36,
            vision=0,
            settings={"learning_rate": 3.5e-5, "vision_learning_rate": 3.5e-5},
            miniature={"learning_rate": 1.4e-4, "vision_learning_rate": 2.1e-3},
        ),
        Arm(
            "S3",
            language=36,
            vision=0,
            settings={"learning_rate": 2.5e-5, "vision_learning_rate": 2.5e-5},
            miniature={"learning_rate": 1.0e-4, "vision_learning_rate": 1.5e-3},
        ),
    ),
    settings={
        **ONE_EPOCH,
        "rank": 4,
        "alpha": 8.0,
        "target_modules": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
    },
    miniature={
        **defaults.SETTINGS,
        "placement": {"language": 2, "vision": 4},
        "target_modules": (),
        "warmup_ratio": 0.1,
        "steps": 80,
        "eval_every_steps": 16,
    },
    miniature_before_format_3={"eval_every_steps": 20},
)

if __name__ == "__main__":
    from sweeps.cli.curriculum import main

    main(STUDY)

"""Smoke: a run of ten steps that checks a setup before a real study.

python -m sweeps.smoke                       on the embedded miniature, in about a minute
python -m sweeps.smoke --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl
"""

from sweeps.study import ROW_BY_ROW, Arm, PreflightLimits, Study
from trainables.mini import defaults

STUDY = Study(
    name="smoke",
    question="Does this setup load, train both towers, measure, guard, checkpoint and record?",
    arms=(
        Arm("A0", language=0, vision=0),
        Arm("C1", language=2, vision=2),
    ),
    settings={
        **ROW_BY_ROW,
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.05,
        "learning_rate": 2e-4,
        "warmup_ratio": 0.1,
        "steps": 10,
        "eval_every_steps": 3,
    },
    miniature={**defaults.SETTINGS, "steps": 10, "eval_every_steps": 3},
    # ten steps only check the setup, so coverage of the data does not matter
    limits=PreflightLimits(refuse_below_coverage_epochs=0.0, warn_below_coverage_epochs=0.0),
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
